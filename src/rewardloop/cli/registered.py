"""The registered version that a command is asked for.

In: the configuration and a version number or alias. Out: the version's name in MLflow and where MLflow is.
"""

import os
from pathlib import Path

from rewardloop.cli.options import read_settings


def find_version(config: Path, overrides: list[str] | None, version: str) -> tuple[str, str]:
    """(``models:/NAME/VERSION``, tracking URI) of a version number or alias.

    Raises:
        BadInputError: there is no such version, or MLflow does not answer.
    """
    from rewardloop.storage import Storage
    from rewardloop.tracking.connection import connect
    from rewardloop.tracking.registry import resolve

    settings = read_settings(config, overrides).settings
    uri = connect(
        settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI"),
        Path(settings.home).resolve(),
        settings.tracking.timeout_seconds,
    )
    return resolve(settings.model_name, version, uri, Storage.open(settings.store.url)), uri
