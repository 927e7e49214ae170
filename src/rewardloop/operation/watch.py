"""The loop behind ``rewardloop trigger --watch``: look whenever something came, or when time alone may have decided.

In: the places where feedback arrives, and a function that looks at everything and starts a run if one is due. Out:
nothing; it goes on until it is interrupted. File events wake it at once. Every place is also listed every
``poll_seconds``, because object stores and network folders send no events and queues of events overflow. A look reads
every manifest, a listing only names: the fingerprint of the last listing is the high-water mark above which something
is new. It is kept in a file, so that a restart does not look again at what was looked at.
"""

import hashlib
import math
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rewardloop.errors import RewardloopError
from rewardloop.operation.arrivals import is_final
from rewardloop.storage import Storage

_Look = Callable[[list[str]], datetime | None]
_Say = Callable[[str], None]


class Wakes:
    """What has happened since the last look; any thread may add to it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()

    def add(self, what: str) -> None:
        """Wake the loop; ``what`` says why, for people."""
        self._queue.put(what)

    def wait(self, seconds: float) -> list[str]:
        """What was added, as soon as there is something; nothing after ``seconds``."""
        found: list[str] = []
        try:
            found.append(self._queue.get(timeout=max(seconds, 0.0)))
            while True:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            return found


@dataclass(frozen=True)
class Place:
    """A folder in which something that matters may arrive."""

    storage: Storage
    folder: str
    """Inside ``storage``; empty: its root."""
    recursive: bool = False
    """Whether what matters lies in folders of its own."""

    @property
    def name(self) -> str:
        """For people, and as a key."""
        return f"{self.storage.url.rstrip('/')}/{self.folder}".rstrip("/")

    def mark(self) -> str:
        """Number and fingerprint of the files here: names, sizes and times of those that may be complete."""
        fs, root = self.storage.fs, self.storage.path(self.folder)
        fs.invalidate_cache()
        try:
            found = fs.find(root, detail=True).values() if self.recursive else fs.ls(root, detail=True)
        except FileNotFoundError:
            found = []
        lines = [
            f"{one['name']} {one['size']} {one.get('mtime') or one.get('LastModified') or one.get('created')}"
            for one in found
            if one["type"] == "file" and is_final(str(one["name"]).rsplit("/", 1)[-1])
        ]
        return f"{len(lines)} {hashlib.sha256(chr(10).join(sorted(lines)).encode('utf-8', 'replace')).hexdigest()}"


class Marks(BaseModel):
    """Up to where the last finished look has seen, and when time alone may change its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: str
    """Digest of the settings it was made with; others look anew."""
    places: dict[str, str]
    again_at: datetime | None

    @classmethod
    def read(cls, folder: Storage, name: str) -> "Marks | None":
        """The kept marks; None when there are none that can be read."""
        try:
            return cls.model_validate_json(folder.read(name))
        except (OSError, ValidationError):
            return None


def watch(
    places: Sequence[Place],
    look: _Look,
    wakes: Wakes,
    *,
    poll_seconds: float,
    keep: tuple[Storage, str],
    settings: str,
    say: _Say,
) -> None:
    """Look now, if anything may have changed since the kept marks, and then again and again.

    A look that fails is reported and tried again after ``poll_seconds``: it never ends the loop.

    Args:
        places: where feedback arrives.
        look: takes what woke it, starts a run if one is due, and says when time alone may change its answer.
        wakes: filled by file events, requests and whoever else has news.
        poll_seconds: between two listings.
        keep: folder and name of the file of the marks.
        settings: digest of everything that the answer of ``look`` depends on besides.
        say: told what goes wrong.
    """
    folder, name = keep
    known = Marks.read(folder, name)
    if known is not None and known.settings != settings:
        known = None
    woken: list[str] = []
    deadline = _monotonic(known.again_at if known else None)
    while True:
        # Listed before the look: what comes during it is news afterwards.
        marks = _listed(places, say)
        # By both clocks: one jumps, the other stands still while a laptop sleeps.
        time_is_up = time.monotonic() >= deadline or (known is not None and _is_past(known.again_at))
        if woken or time_is_up or known is None or known.places != marks:
            _keep(folder, name, None, say)  # killed from here on, the next watcher looks
            try:
                again_at = look(woken)
            except Exception as error:
                _tell(error, say)
                again_at = datetime.now(UTC) + timedelta(seconds=poll_seconds)
            known = Marks(settings=settings, places=marks or {}, again_at=again_at)
            _keep(folder, name, known, say)
            deadline = _monotonic(again_at)
        woken = wakes.wait(min(poll_seconds, deadline - time.monotonic()))


def follow_events(places: Sequence[Place], wakes: Wakes, stop: threading.Event, say: _Say) -> threading.Thread:
    """Start a thread that wakes the loop at every change in the local ``places``, until ``stop``.

    Without events (too many folders, a file system that sends none) listings alone find what is new.
    """
    local = [place for place in places if place.storage.is_local]
    for place in local:
        Path(place.storage.path(place.folder)).mkdir(parents=True, exist_ok=True)
    flat = {str(Path(place.storage.path(place.folder)).resolve()) for place in local if not place.recursive}
    deep = {str(Path(place.storage.path(place.folder)).resolve()) for place in local if place.recursive}

    def follow() -> None:
        """Wait for events until the watch is over."""
        from watchfiles import Change
        from watchfiles import watch as file_events

        def matters(change: Change, path: str) -> bool:
            file = Path(path)
            # A new folder is news too: what is put into it at once comes before anybody can watch it.
            in_place = str(file.parent) in flat | deep or str(file.parent.parent) in deep
            return change != Change.deleted and is_final(file.name) and in_place

        try:
            for changes in file_events(*flat, *deep, watch_filter=matters, stop_event=stop, debounce=200):
                wakes.add(f"{len(changes)} file(s) changed")
        except OSError as error:
            say(f"no file events ({error}); folders are listed every trigger.poll_seconds")

    thread = threading.Thread(target=follow, name="file events", daemon=True)
    if local:
        thread.start()
    return thread


def _listed(places: Sequence[Place], say: _Say) -> dict[str, str] | None:
    """The mark of every place; None when one cannot be listed, so that the look finds out why."""
    try:
        return {place.name: place.mark() for place in places}
    except Exception as error:
        say(f"a folder cannot be listed: {type(error).__name__}: {error}")
        return None


def _keep(folder: Storage, name: str, marks: Marks | None, say: _Say) -> None:
    try:
        folder.write(name, b"" if marks is None else marks.model_dump_json(indent=1).encode())
    except (RewardloopError, OSError) as error:
        say(f"{error}\nThe watch goes on; started again, it looks at everything.")


def _tell(error: Exception, say: _Say) -> None:
    if isinstance(error, RewardloopError | OSError):
        say(f"{error}\nThe watch goes on.")
    else:  # a defect, or a library's own error: the place is what helps
        say("".join(traceback.format_exception(error)) + "The watch goes on.")


def _is_past(moment: datetime | None) -> bool:
    return moment is not None and datetime.now(UTC) >= moment


def _monotonic(moment: datetime | None) -> float:
    """``moment`` on the monotonic clock, as far as the two clocks agree now."""
    return math.inf if moment is None else time.monotonic() + (moment - datetime.now(UTC)).total_seconds()
