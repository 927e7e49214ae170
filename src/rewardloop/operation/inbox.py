"""A drop folder: whatever people and machines put there becomes batches, one per file.

In: a folder of any file system. Out: complete files ingested and then moved to ``taken/``, bad ones moved to
``rejected/`` beside a ``.why.txt``. Nothing is deleted. A crash between ingest and move leaves the file where it was:
the next pass ingests it again, which adds nothing, and moves it. So does another process that takes the same file.
"""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rewardloop.errors import BadInputError
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.operation.arrivals import Identity, Seen, complete_files, identity_of
from rewardloop.storage import Storage, StoreError, ask

TAKEN, REJECTED = "taken", "rejected"
_WHY = ".why.txt"
_Ingest = Callable[[list[Path]], IngestReport]


@dataclass(frozen=True)
class InboxReport:
    """What one pass did."""

    taken: dict[str, IngestReport] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    """Name -> why."""
    waiting: tuple[str, ...] = ()
    """Not complete yet."""
    troubled: dict[str, str] = field(default_factory=dict)
    """Left in place for the next pass: name -> what went wrong, which is not the file's fault."""


class _RejectedError(Exception):
    """A file that was moved to ``rejected/``, and why."""


class _ChangedError(Exception):
    """A file that was written to while it was read: it was not complete."""


def open_inbox(url: str) -> Storage:
    """The folder at ``url``; a local one is made.

    Raises:
        BadInputError: it is a file, or of an unknown kind, or cannot be made.
    """
    try:
        folder = Storage.open(url)
        if folder.is_local:
            Path(folder.root).mkdir(parents=True, exist_ok=True)
    except BadInputError as error:
        raise BadInputError(str(error).replace("store.url", "trigger.inbox")) from error
    except OSError as error:
        raise BadInputError(f"trigger.inbox: {url!r} cannot be opened: {error.strerror}; name a folder") from error
    return folder


def take_inbox(
    folder: Storage,
    ingest: _Ingest,
    *,
    stable_seconds: float,
    seen: Seen | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> InboxReport:
    """Ingest every complete file of ``folder`` as a batch of its own.

    Args:
        folder: the inbox.
        ingest: takes the copy of one file; BadInputError means that the file is bad, unless a disk is.
        stable_seconds: how long nothing may have changed in a complete file.
        seen: what earlier passes saw.
        say: told one line per file.
    """
    complete, waiting = complete_files(folder, stable_seconds, Seen() if seen is None else seen)
    report = InboxReport(waiting=waiting)
    for name, identity in complete.items():
        shown = _shown(name)
        try:
            report.taken[name] = _take(folder, name, identity, ingest)
            say(f"{shown}: {report.taken[name].summary}")
        except FileNotFoundError:
            continue  # another process has taken it, or its owner thought better of it
        except _RejectedError as error:
            report.rejected[name] = str(error)
            say(f"{shown}: rejected: {error}")
        except _ChangedError:
            report.troubled[name] = "changed while it was read"
            say(f"{shown}: {report.troubled[name]}; it is read again")
        except Exception as error:
            # One file that nobody foresaw must not keep the others from being taken, for months perhaps.
            report.troubled[name] = f"{type(error).__name__}: {error}"
            say(f"{shown}: left in the inbox: {report.troubled[name]}")
    return report


def _take(folder: Storage, name: str, identity: Identity, ingest: _Ingest) -> IngestReport:
    with tempfile.TemporaryDirectory(prefix="rewardloop-inbox-") as temporary:
        # Of a copy it is certain that what was ingested is what the digest is of.
        copy = Path(temporary) / name
        ask(folder.fs.get_file, folder.path(name), str(copy))
        with copy.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        try:
            report = ingest([copy])
        except BadInputError as error:
            if _is_disk_error(error):
                raise
            why = str(error).replace(f"{temporary}/", "")
            _reject(folder, name, identity, why)
            raise _RejectedError(why) from error
    _move(folder, name, TAKEN, f"{datetime.now(UTC):%Y%m%d}-{digest[:12]}-{name}", identity)
    return report


def _is_disk_error(error: BadInputError) -> bool:
    """A full disk or a store that is away is no fault of the file's; a damaged gzip has no ``errno``."""
    cause = error.__cause__
    return isinstance(error, StoreError) or (isinstance(cause, OSError) and cause.errno is not None)


def _reject(folder: Storage, name: str, identity: Identity, why: str) -> None:
    if identity_of(folder, name) != identity:
        raise _ChangedError
    target = _free(folder, REJECTED, name)
    text = f"{_shown(name)} was not taken on {datetime.now(UTC):%Y-%m-%d at %H:%M:%S} UTC:\n\n{why}\n\n"
    mend = "Mend the file and put it into the inbox again.\n"
    # First the reason: a file without one would be worse than a reason without its file.
    folder.write(f"{REJECTED}/{target}{_WHY}", (text + mend).encode("utf-8", "replace"))
    _move(folder, name, REJECTED, target, identity)


def _move(folder: Storage, name: str, parent: str, wanted: str, identity: Identity) -> None:
    """Move the file that was read into ``parent``, and never another one that has taken its name meanwhile.

    Raises:
        _ChangedError: there is another one; it stays in the inbox.
    """
    goal = f"{parent}/{_free(folder, parent, wanted)}"
    try:
        if not folder.is_local:
            _move_object(folder, name, goal, identity)
            return
        Path(folder.path(parent)).mkdir(exist_ok=True)
        Path(folder.path(name)).rename(folder.path(goal))
    except FileNotFoundError:
        return  # another process that took the same file has moved it
    if identity_of(folder, goal) == identity:
        return
    # What was moved was dropped a moment ago and nobody has read it: back it goes, beside what may have come since.
    Path(folder.path(goal)).rename(folder.path(_free(folder, "", name)))
    raise _ChangedError


def _move_object(folder: Storage, name: str, goal: str, identity: Identity) -> None:
    """An object store cannot rename: copy, look whether it was the object that was read, and only then delete."""
    ask(folder.fs.cp_file, folder.path(name), folder.path(goal))
    if identity_of(folder, name) != identity:
        ask(folder.fs.rm_file, folder.path(goal))
        raise _ChangedError
    ask(folder.fs.rm_file, folder.path(name))


def _free(folder: Storage, parent: str, name: str) -> str:
    """``name``, or the first of ``name-2``, ``name-3``, ... (before the suffixes) that is not in ``parent`` yet."""
    stem, dot, suffixes = name.partition(".")
    number, free = 1, name
    while folder.exists(f"{parent}/{free}" if parent else free):
        number += 1
        free = f"{stem}-{number}{dot}{suffixes}"
    return free


def _shown(name: str) -> str:
    """A name as a line of a log may hold it."""
    return "".join(character if character.isprintable() else "?" for character in name)
