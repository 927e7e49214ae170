"""One version's tags without importing MLflow, which takes longer than a rollback may.

In: where MLflow is. Out: the tags of a version, asked of the server's REST interface, or read from the SQLite file.
Whatever is unusual (another database, a password of another kind, a schema that changed) is left to MLflow's client.
"""

import base64
import json
import os
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from rewardloop.errors import BadInputError

_SQLITE = "sqlite:///"
_SECONDS = 2.0
"""A server that takes longer is left to MLflow's client, which is patient."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would take the login along, to whichever host the answer names."""

    def redirect_request(self, *_: object) -> None:
        """None: the answer is an error."""


_OPENER = urllib.request.build_opener(_NoRedirects)


class RegistryAwayError(BadInputError):
    """MLflow did not answer in time, or said that it cannot."""


def tags_of(name: str, version: str, tracking_uri: str, *, patient: bool = True) -> Mapping[str, str] | None:
    """Tags of a registered version, or None when the registry has no such version.

    Args:
        name: the registered model.
        version: a number.
        tracking_uri: where MLflow is.
        patient: False: a server that is silent for two seconds is given up.

    Raises:
        RegistryAwayError: MLflow does not answer.
        BadInputError: MLflow cannot be used.
    """
    try:
        if tracking_uri.startswith(_SQLITE):
            return _from_file(name, version, Path(tracking_uri.removeprefix(_SQLITE)))
        if tracking_uri.startswith(("http://", "https://")):
            return _from_server(name, version, tracking_uri)
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
        refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
        if not patient and isinstance(error, OSError) and not refused:
            raise RegistryAwayError(f"{name} version {version}: MLflow at {tracking_uri} does not answer") from error
        # MLflow's own client says what is wrong, if anything is.
    return _from_client(name, version, tracking_uri)


def _from_file(name: str, version: str, database: Path) -> Mapping[str, str] | None:
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=_SECONDS)) as connection:
        known = connection.execute(
            "SELECT current_stage FROM model_versions WHERE name = ? AND version = ?", (name, int(version))
        ).fetchone()
        if known is None or known[0] == "Deleted_Internal":
            return None
        rows = connection.execute(
            "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", (name, int(version))
        )
        return dict(rows.fetchall())


def _from_server(name: str, version: str, uri: str) -> Mapping[str, str] | None:
    asked = urllib.parse.urlencode({"name": name, "version": version})
    # The scheme was checked by the caller.
    request = urllib.request.Request(f"{uri.rstrip('/')}/api/2.0/mlflow/model-versions/get?{asked}")  # noqa: S310  http or https: checked
    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    elif user:
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    try:
        with _OPENER.open(request, timeout=_SECONDS) as answer:
            found = json.load(answer)["model_version"]
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404 and json.load(error)["error_code"] == "RESOURCE_DOES_NOT_EXIST":
                return None
        raise
    return {tag["key"]: tag["value"] for tag in found.get("tags", [])}


def _from_client(name: str, version: str, uri: str) -> Mapping[str, str] | None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        tags: Mapping[str, str] = MlflowClient(tracking_uri=uri).get_model_version(name, version).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise BadInputError(
            f"{name} version {version}: MLflow at {uri} cannot be asked: {error.message}; start it, or correct "
            "tracking.uri (or MLFLOW_TRACKING_URI)"
        ) from error
    return tags
