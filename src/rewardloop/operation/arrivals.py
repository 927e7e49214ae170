"""Files that arrive in a folder: which of them are complete.

In: a folder of any file system, and what earlier passes saw in it. Out: the files that nobody writes to any more, as
far as their names, sizes and times tell.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from rewardloop.errors import BadInputError
from rewardloop.storage import Storage, ask

_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".filepart")


class Identity(NamedTuple):
    """Tells whether a file is still the one that was looked at."""

    size: int
    modified: float
    """Seconds since 1970; 0 where the file system does not say, or says it in two precisions."""
    number: str
    """Inode or ETag."""


@dataclass
class Seen:
    """What earlier passes saw, so that a file whose time lies in the future is found complete too."""

    since: dict[str, tuple[Identity, float]] = field(default_factory=dict)
    """Name -> the file, and since when (monotonic) it has been that."""


def complete_files(
    folder: Storage, stable_seconds: float, seen: Seen, *, now: float | None = None, clock: float | None = None
) -> tuple[dict[str, Identity], tuple[str, ...]]:
    """Files that can be taken, and the names of those that may still grow.

    A file is complete once it is older than ``stable_seconds`` (also when it was renamed into place), or has not
    changed for so long between passes. Hidden and temporary names are passed over; so are folders and links.

    Args:
        folder: where they arrive.
        stable_seconds: how long nothing may have changed.
        seen: what earlier passes saw; this pass is added.
        now: seconds since 1970.
        clock: monotonic seconds.
    """
    now, clock = time.time() if now is None else now, time.monotonic() if clock is None else clock
    entries = _entries(folder)
    seen.since = {name: known for name, known in seen.since.items() if name in entries}
    complete, waiting = {}, []
    for name, (identity, modified) in entries.items():
        known, since = seen.since.get(name, (identity, clock))
        if known != identity:
            since = clock
        seen.since[name] = (identity, since)
        if (modified and now - modified >= stable_seconds) or clock - since >= stable_seconds:
            complete[name] = identity
        else:
            waiting.append(name)
    return complete, tuple(waiting)


def is_final(name: str) -> bool:
    """Whether a file of this name may be complete: programs that copy use the others meanwhile."""
    return bool(name) and not name.startswith(".") and not name.lower().endswith(_TEMPORARY)


def identity_of(folder: Storage, name: str) -> Identity:
    """The file as it is now; FileNotFoundError when it is gone."""
    folder.fs.invalidate_cache()
    return _identity(ask(folder.fs.info, folder.path(name)))[0]


def _entries(folder: Storage) -> dict[str, tuple[Identity, float]]:
    folder.fs.invalidate_cache()
    try:
        found = ask(folder.fs.ls, folder.path(""), detail=True)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadInputError(f"trigger.inbox: {folder.url}: cannot be listed: {error.strerror or error}") from error
    # A link is passed over: it could lead to files that only this process may read.
    files = {str(one["name"]).rsplit("/", 1)[-1]: _identity(one) for one in found if one["type"] == "file"}
    return {name: files[name] for name in sorted(files) if is_final(name)}


def _identity(info: dict[str, Any]) -> tuple[Identity, float]:
    """The file, and when it was last modified (0: unknown)."""
    modified = info.get("mtime") or info.get("LastModified") or info.get("created") or 0
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    size, tag = int(info["size"] or 0), info.get("ETag") or info.get("etag")
    if tag:  # of the content; an object's time has milliseconds in a listing and none when it is asked for alone
        return Identity(size, 0, str(tag).strip('"')), seconds
    return Identity(size, seconds, str(info.get("ino", ""))), seconds
