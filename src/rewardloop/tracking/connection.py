"""Where MLflow is, checked before minutes of work depend on it.

In: the setting ``tracking.uri`` (or ``MLFLOW_TRACKING_URI``). Out: a URI that every process of the run can use: an
SQLite file that exists, with an absolute path, or a server that answered. A password in it goes into this process's
environment: the URI is a parameter of the pipeline, and is written down in many places.
"""

import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from rewardloop.errors import BadInputError

_SQLITE = "sqlite:///"
_USER, _PASSWORD, _DATABASE_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"
# Of SQLAlchemy's drivers those on libpq, which reads the password from the environment.
_LIBPQ = {"postgresql", "postgresql+psycopg2", "postgresql+psycopg"}


def connect(uri: str | None, home: Path, timeout_seconds: int) -> str:
    """Return the URI to use; None means an SQLite file under ``home``, created on first use (2 to 7 seconds).

    Raises:
        BadInputError: no MLflow server answers within ``timeout_seconds``, or MLflow cannot use the URI.
    """
    uri = f"{_SQLITE}{home.resolve() / 'mlflow.db'}" if uri is None else keep_password(uri)
    if uri.startswith(("http://", "https://")):
        _check_server(uri, timeout_seconds)
        return uri
    if uri.startswith(_SQLITE):
        database = Path(uri.removeprefix(_SQLITE)).resolve()
        _create_once(database)
        uri = f"{_SQLITE}{database}"
    elif uri.startswith(("postgresql", "mysql")):
        _check_database(uri, timeout_seconds)
    _check_store(uri)
    return uri


def keep_password(uri: str) -> str:
    """Put a URI's password where MLflow (or libpq) looks for one, the environment, and return the URI without it.

    Raises:
        BadInputError: no such place is known for this kind of URI.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise BadInputError(f"tracking.uri: {uri!r} is no URI ({error}); correct it, or MLFLOW_TRACKING_URI") from error
    login, _, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    if parts.scheme in ("http", "https") and login:
        if not os.environ.get(_USER):
            os.environ.update({_USER: unquote(user), _PASSWORD: unquote(password)})
        return parts._replace(netloc=place).geturl()
    if parts.scheme in _LIBPQ and password:
        os.environ[_DATABASE_PASSWORD] = unquote(password)
        return parts._replace(netloc=f"{user}@{place}").geturl()
    if password or any("password" in name.lower() for name, _ in parse_qsl(parts.query)):
        raise BadInputError(
            f"tracking.uri: {uri}: holds a password that cannot be kept out of what a run writes down; leave it out "
            f"and give it to the driver ({_DATABASE_PASSWORD} for PostgreSQL), or put an MLflow server before it"
        )
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


def _check_database(uri: str, timeout_seconds: int) -> None:
    """One connection: MLflow itself tries a database that is away for more than a minute."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(uri, connect_args={"connect_timeout": timeout_seconds})
        engine.connect().close()
        engine.dispose()
    except SQLAlchemyError as error:
        raise _unusable(uri, error) from error
    except ImportError as error:
        raise BadInputError(
            f"tracking.uri: {uri}: {error}; install that driver, or name one that is there: postgresql+psycopg2://... "
            "with pip install 'rewardloop[postgres]'"
        ) from error


def _check_store(uri: str) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise _unusable(uri, error) from error


def _unusable(uri: str, error: Exception) -> BadInputError:
    return BadInputError(
        f"tracking.uri: MLflow cannot use {uri}: {_first_line(error)}; correct or remove tracking.uri "
        "(or MLFLOW_TRACKING_URI)"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
