"""What nobody needs any more on this machine and in the registry, and its removal.

In: settings, claims, history, the registry. Out: a ``Plan``, and what of it was removed. Feedback, quarantine, golden
set, history and claims are never removed. Whatever a run cannot find it makes again: steps' outputs leave together with
the entries of KFP's cache that name them.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from rewardloop.config import Settings
from rewardloop.kept import Kept, KeptResult
from rewardloop.operation.claim_files import ClaimState, read_claims
from rewardloop.operation.old_versions import OldVersion, old_versions, remove_versions
from rewardloop.operation.processes import is_gone, this_owner
from rewardloop.operation.status import read_runs
from rewardloop.storage import Storage

_CACHE = ".kfp_cache"
_LEFT_AFTER_SECONDS = 24 * 3600.0
"""Nobody writes one file for a day."""


@dataclass(frozen=True)
class Item:
    """One thing that can go; ``place`` is a folder or a file of this machine, ``version`` a version in the registry,
    ``kept`` a kept result of the store."""

    kind: Literal["run", "outputs", "work", "temporary", "kept", "version"]
    what: str
    size: int
    """Bytes."""
    place: Path | None = None
    version: OldVersion | None = None
    kept: KeptResult | None = None


@dataclass(frozen=True)
class Plan:
    """What would be removed; ``blocked``: why nothing is, now."""

    items: list[Item] = field(default_factory=list)
    blocked: str | None = None


def plan(settings: Settings, storage: Storage, tracking_uri: str) -> Plan:
    """Look for what can go; nothing is changed.

    Args:
        settings: ``housekeeping``, ``home`` and the organization.
        storage: of the feedback store.
        tracking_uri: what ``connect`` returned.

    Raises:
        BadInputError: claims or history cannot be read.
    """
    claims = read_claims(storage, lease_seconds=settings.claims.lease_seconds)
    at_work = [claim for claim in claims if _is_at_work(claim)]
    if at_work:
        first = at_work[0]
        since = first.at.isoformat(timespec="seconds")
        return Plan(blocked=f"run {first.run_id} is under way by {first.owner} since {since}")
    unfinished = {claim.run_id for claim in claims if claim.state != "finished"}
    home = Path(settings.home).resolve()
    items = [*_folders(home, settings.housekeeping.keep_runs, unfinished)]
    for path in storage.leftovers(_LEFT_AFTER_SECONDS):
        items.append(Item("temporary", f"half of a file that was never finished, {path.name}", _size(path), path))
    for result in _kept(storage, settings.housekeeping.max_kept_bytes):
        items.append(Item("kept", f"kept result {result.kind} {result.key[:12]}", result.size, kept=result))
    for one in old_versions(settings, storage, tracking_uri, unfinished):
        items.append(Item("version", f"{one.name} version {one.version}", one.size, version=one))
    return Plan(items)


def remove(wanted: Plan, settings: Settings, storage: Storage, tracking_uri: str) -> list[Item]:
    """Remove what was planned and still is not needed; returns what is gone.

    Raises:
        OSError: a folder of this machine cannot be removed.
    """
    if wanted.blocked or plan(settings, storage, tracking_uri).blocked:
        return []
    gone = []
    for item in wanted.items:
        if item.place is not None:
            if item.kind == "outputs":
                for entry in _cache_entries(item.place):
                    entry.unlink(missing_ok=True)
            try:
                if item.kind == "temporary":
                    item.place.unlink()
                else:
                    shutil.rmtree(item.place)
            except FileNotFoundError:
                continue  # somebody else tidies up too
            gone.append(item)
        elif item.kept is not None:
            Kept(storage).remove(item.kept.kind, item.kept.key)
            gone.append(item)
    versions = {one.version: one for one in wanted.items if one.version is not None}
    removed = remove_versions(list(versions), settings, storage, tracking_uri)
    return gone + [versions[version] for version in removed]


def _is_at_work(claim: ClaimState) -> bool:
    """Also where it has been silent for long: a process of this machine that lives may write at any moment."""
    if claim.state == "silent":
        return claim.owner.place == this_owner().place and not is_gone(claim.owner)
    return claim.state == "running"


def _kept(storage: Storage, at_most: int) -> list[KeptResult]:
    """Results beyond the limit, and those of batches that are not there any more."""
    kept, batches = Kept(storage), set(storage.list("batches"))
    gone = [one for one in kept.results() if not (kept.batches_of(one) or set()) <= batches]
    return [*gone, *(one for one in kept.superfluous(at_most) if one not in gone)]


def _folders(home: Path, keep: int, unfinished: set[str]) -> Iterator[Item]:
    """Folders of runs beyond the newest ``keep``, and outputs and checkpoints that are older than those."""
    runs = read_runs(home / "runs", [])
    if len(runs) <= keep:
        return
    for place, record in runs[keep:]:
        if record.run_id not in unfinished:
            yield Item("run", f"run {record.run_id} of {record.started_at[:10]}", _size(place), place)
    # An output belongs to the run during which it was last written to; one that is not finished goes on with its own.
    kept = [record for place, record in runs[:keep]] + [one for _, one in runs[keep:] if one.run_id in unfinished]
    oldest = min(datetime.fromisoformat(record.started_at).timestamp() for record in kept)
    for place in sorted((home / "pipelines").glob("*/")):
        if place.name != _CACHE and place.stat().st_mtime < oldest:
            yield Item("outputs", f"outputs of steps {place.name}", _size(place), place)
    for place in sorted((home / "work").glob("*/*/")):
        if _last_written(place) < oldest:
            yield Item("work", f"checkpoints of {place.parent.name} {place.name[:12]}", _size(place), place)


def _cache_entries(outputs: Path) -> list[Path]:
    """Entries of KFP's cache that name a file in ``outputs``."""
    entries = (outputs.parent / _CACHE).glob("*.json")
    return [entry for entry in entries if f"{outputs}/" in entry.read_text(encoding="utf-8")]


def _size(folder: Path) -> int:
    """Bytes that its removal frees: none for batches, whose files the store has too (hard links)."""
    paths = folder.rglob("*") if folder.is_dir() else [folder]
    found = (path.lstat() for path in paths if path.is_file() and not path.is_symlink())
    return sum(one.st_size for one in found if one.st_nlink == 1)


def _last_written(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
