"""Where MLflow is, checked before minutes of work depend on it.

In: the setting ``tracking.uri`` (or ``MLFLOW_TRACKING_URI``). Out: a URI that every process of the run can use: an
SQLite file that exists, with an absolute path, or a server that answered.
"""

from pathlib import Path

from rewardloop.errors import BadInputError

_SQLITE = "sqlite:///"


def connect(uri: str | None, home: Path, timeout_seconds: int) -> str:
    """Return the URI to use; None means an SQLite file under ``home``, created on first use (2 to 7 seconds).

    Raises:
        BadInputError: no MLflow server answers within ``timeout_seconds``, or MLflow cannot use the URI.
    """
    if uri is None:
        uri = f"{_SQLITE}{home.resolve() / 'mlflow.db'}"
    if uri.startswith(("http://", "https://")):
        _check_server(uri, timeout_seconds)
        return uri
    if uri.startswith(_SQLITE):
        database = Path(uri.removeprefix(_SQLITE)).resolve()
        _create_once(database)
        uri = f"{_SQLITE}{database}"
    _check_store(uri)
    return uri


def _check_server(uri: str, timeout_seconds: int) -> None:
    """One real question: ports are also held by other servers, and MLflow's may want a password."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request_safe

    try:
        # MLflow's own client would wait and try again for minutes.
        http_request_safe(
            get_default_host_creds(uri),  # type: ignore[no-untyped-call]
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            timeout=timeout_seconds,
            max_retries=0,
        )
    except (MlflowException, OSError, ValueError) as error:
        raise BadInputError(
            f"tracking.uri: no MLflow server answered at {uri} within {timeout_seconds} s ({_first_line(error)}); "
            "start it, correct tracking.uri (or MLFLOW_TRACKING_URI), give the user and password that it wants "
            "(MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD), or remove both settings to track in a local file"
        ) from error


def _create_once(database: Path) -> None:
    """Create the tables in a file aside and move it into place.

    MLflow itself fails when two processes create one, and a file that is there must be complete: a killed process
    leaves none.
    """
    from filelock import FileLock

    if database.is_file():
        return
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_name(f"{database.name}.lock")):
            if not database.is_file():
                print(f"Creating the tracking database {database} (once, a few seconds)", flush=True)
                _create(database)
    except OSError as error:
        raise BadInputError(
            f"tracking.uri: {database} cannot be created: {error.strerror or error}; correct the permissions or home"
        ) from error


def _create(database: Path) -> None:
    import logging

    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("alembic").setLevel(logging.WARNING)  # a line per migration otherwise
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    unfinished = database.with_name(f"{database.name}.new")
    unfinished.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"{_SQLITE}{unfinished}", (database.parent / "mlartifacts").as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()
    unfinished.replace(database)


def _check_store(uri: str) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise BadInputError(
            f"tracking.uri: MLflow cannot use {uri}: {_first_line(error)}; correct or remove tracking.uri "
            "(or MLFLOW_TRACKING_URI)"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
