"""Whether MLflow can be written, asked without importing it, which takes longer than the question.

In: where MLflow is, and the organization whose experiment a run will write to. Out: a ``Finding``. A server is asked
over REST and takes a tag on that experiment; an SQLite file is opened for writing; any other database is left to
MLflow's own client.
"""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rewardloop.config import without_password
from rewardloop.errors import BadInputError
from rewardloop.prerequisites import Finding, failed

CHECK = "MLflow"
TAG = "rewardloop.prerequisites_checked_at"
_SQLITE = "sqlite:///"
_SETTING = "tracking.uri (or MLFLOW_TRACKING_URI)"
_LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class _RefusedError(Exception):
    """The server answered, and not as wanted."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}" if code else f"{status}: {message}")
        self.status, self.code = status, code


def check_tracking(uri: str, *, organization: str | None, timeout_seconds: float) -> Finding:
    """Ask MLflow at ``uri`` to take a write.

    Args:
        uri: as ``connect`` takes it.
        organization: names the experiment; it is created where it is missing, as the run would do. None: any
            experiment takes the tag.
        timeout_seconds: how long a server, or another process that writes to the file, may take.
    """
    shown = without_password(uri)
    if uri.startswith(_SQLITE):
        return _check_file(Path(uri.removeprefix(_SQLITE)), timeout_seconds)
    if uri.startswith(("http://", "https://")):
        return _check_server(uri, shown, organization, timeout_seconds)
    from rewardloop.tracking.connection import connect

    try:
        connect(uri, Path(), round(timeout_seconds))
    except BadInputError as error:
        return failed(CHECK, error, _SETTING)
    return Finding(CHECK, "ok", f"{shown}: answers; whether it takes a write is not asked of a database")


def _check_file(database: Path, timeout_seconds: float) -> Finding:
    if not database.is_file():
        return _check_creatable(database)
    mend = f"{_SETTING}, or the file's permissions"
    if not (os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)):
        return Finding(CHECK, "failed", f"{database}: this user may not write to the file and its folder", mend)
    try:
        with closing(sqlite3.connect(database, timeout=timeout_seconds, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone()
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        return Finding(CHECK, "failed", f"{database}: {error}", mend)
    if known is None:
        return Finding(CHECK, "failed", f"{database}: has no tables of MLflow", _SETTING)
    return Finding(CHECK, "ok", f"{database}: can be written")


def _check_creatable(database: Path) -> Finding:
    folder = next((one for one in database.parents if one.exists()), Path("/"))
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        found = f"{database}: is not there, and {folder} cannot be written"
        return Finding(CHECK, "failed", found, f"{_SETTING}, or the permissions of {folder}")
    return Finding(CHECK, "ok", f"{database}: is not there yet; the first run makes it")


def _check_server(uri: str, shown: str, organization: str | None, timeout_seconds: float) -> Finding:
    import requests

    try:
        name = _write(uri, organization, timeout_seconds)
    except BadInputError as error:
        return failed(CHECK, error, "organization")
    except _RefusedError as error:
        if error.status in (401, 403):
            found = f"{shown}: refuses these credentials, or they may not write ({error})"
            return Finding(CHECK, "failed", found, _LOGIN)
        return Finding(CHECK, "failed", f"{shown}: answers, but not as MLflow does ({error})", _SETTING)
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        found = f"{shown}: no MLflow server answered within {timeout_seconds:g} s ({kind})"
        return Finding(CHECK, "failed", found, f"{_SETTING}, or start the server")
    return Finding(CHECK, "ok", f"{shown}: took a tag on experiment {name!r}")


def _write(uri: str, organization: str | None, timeout_seconds: float) -> str:
    """Tag the organization's experiment; its name."""

    def ask(verb: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _ask(uri, verb, path, body, timeout_seconds)

    if organization is None:
        [found] = ask("POST", "experiments/search", {"max_results": 1})["experiments"]
    else:
        try:
            found = ask("GET", "experiments/get-by-name", {"experiment_name": organization})["experiment"]
        except _RefusedError as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
            found = ask("POST", "experiments/create", {"name": organization}) | {"name": organization}
    if found.get("lifecycle_stage") == "deleted":
        raise BadInputError(
            f"the MLflow experiment {organization!r} was deleted; restore it (mlflow experiments restore "
            f"--experiment-id {found['experiment_id']}) or choose another organization"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    ask("POST", "experiments/set-experiment-tag", {"experiment_id": found["experiment_id"], "key": TAG, "value": now})
    return str(found["name"])


def _ask(uri: str, verb: str, path: str, body: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """One call, with the credentials that MLflow's own client would send, and no second try."""
    import requests

    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() == "true"
    answer = requests.request(
        verb,
        f"{uri.rstrip('/')}/api/2.0/mlflow/{path}",
        params=body if verb == "GET" else None,
        json=None if verb == "GET" else body,
        auth=None if token or not user else (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")),
        headers={"Authorization": f"Bearer {token}"} if token else {},
        verify=not insecure and (os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True),
        allow_redirects=False,  # credentials go along
        timeout=timeout_seconds,
    )
    try:
        content = answer.json()
    except ValueError:
        content = None
    if answer.status_code != 200 or not isinstance(content, dict):
        said = content if isinstance(content, dict) else {}
        raise _RefusedError(
            answer.status_code, str(said.get("error_code", "")), str(said.get("message", answer.reason))
        )
    return content
