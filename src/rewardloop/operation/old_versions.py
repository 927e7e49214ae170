"""Versions in the registry that nobody needs any more.

In: settings, the history, aliases and tags. Out: the versions that can go, and those of them that went. Kept are the
newest, those with an alias, champion and previous champion, those that a policy was aligned to, those that wait for
approval, and those of a run that is not finished.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from rewardloop.config import Settings
from rewardloop.storage import Storage
from rewardloop.tracking.history import History
from rewardloop.tracking.outage import first_line
from rewardloop.tracking.own_promotion import RUN_TAG
from rewardloop.tracking.promotion import not_waiting
from rewardloop.tracking.registry import versions
from rewardloop.tracking.tags import BLESSED, REMOVING, REWARD_MODEL

_GRACE_SECONDS = 2.0
"""Between marking and removing: a promotion that had looked at the version before has written its record by then."""


@dataclass(frozen=True)
class OldVersion:
    """A version that can go; ``place`` is where its files lie, ``size`` their bytes, 0 where that is not known."""

    name: str
    version: str
    place: str
    size: int


def old_versions(settings: Settings, storage: Storage, tracking_uri: str, unfinished: set[str]) -> Iterator[OldVersion]:
    """Versions of both models that can go, oldest first. ``unfinished``: ids of runs that are not."""
    client = MlflowClient(tracking_uri=tracking_uri)
    for name in (settings.policy_name, settings.model_name):
        known = sorted(versions(client, name), key=lambda one: int(one.version))
        needed = _needed(settings, storage, client, name, known)
        for one in known:
            if str(one.version) not in needed and one.tags.get(RUN_TAG) not in unfinished:
                place = client.get_model_version_download_uri(name, str(one.version))
                yield OldVersion(name, str(one.version), place, _size(place))


def remove_versions(
    wanted: Sequence[OldVersion],
    settings: Settings,
    storage: Storage,
    tracking_uri: str,
) -> list[OldVersion]:
    """Remove versions with their files; returns those that went.

    Each is marked first: ``promote`` and ``rollback`` refuse what is marked. What became needed meanwhile is unmarked.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for one in wanted:
        client.set_model_version_tag(one.name, one.version, REMOVING, now)
    if wanted:
        time.sleep(_GRACE_SECONDS)
    gone = []
    for one in wanted:
        if one.version in _needed(settings, storage, client, one.name, versions(client, one.name)):
            client.delete_model_version_tag(one.name, one.version, REMOVING)
            continue
        client.delete_model_version(one.name, one.version)
        gone.append(one)
        if not any(_place(client, other) == one.place for other in versions(client, one.name)):
            _delete_files(one.place, tracking_uri)
    return gone


def _needed(
    settings: Settings, storage: Storage, client: MlflowClient, name: str, known: Sequence[ModelVersion]
) -> set[str]:
    history = History(storage, name)
    records = history.records()
    newest = sorted((int(one.version) for one in known), reverse=True)[: settings.housekeeping.keep_versions]
    needed = {str(version) for version in newest}
    if known:
        needed |= {str(version) for version in client.get_registered_model(name).aliases.values()}
    if records:
        needed |= {records[-1].version, records[-1].previous or "", history.previous() or ""}
    needed |= {
        str(one.version)
        for one in known
        if one.tags.get(BLESSED) == "true" and not_waiting(str(one.version), records) is None
    }
    if name == settings.model_name:
        aligned = (one.tags.get(REWARD_MODEL, "") for one in versions(client, settings.policy_name))
        needed |= {uri.rpartition("/")[2] for uri in aligned}
    return needed


def _place(client: MlflowClient, version: ModelVersion) -> str:
    return str(client.get_model_version_download_uri(version.name, str(version.version)))


def _local(place: str) -> Path | None:
    """The folder, where the files lie on this machine."""
    parsed = urlparse(place)
    return Path(unquote(parsed.path)) if parsed.scheme in ("", "file") else None


def _size(place: str) -> int:
    folder = _local(place)
    if folder is None or not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _delete_files(place: str, tracking_uri: str) -> None:
    folder = _local(place)
    if folder is not None and not folder.exists():
        return
    try:
        get_artifact_repository(place, tracking_uri=tracking_uri).delete_artifacts()  # type: ignore[no-untyped-call]
    except (MlflowException, OSError, NotImplementedError) as error:
        print(f"Warning: {place}: its files could not be removed: {first_line(error)}", flush=True)
