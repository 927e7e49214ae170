"""Results that steps keep beside the feedback, so that what did not change is not computed again.

In: what a result is made of, as a key, and its files. Out: the same files for whoever comes with the same key. A key
holds everything that decides the result: digests of batches, settings and the code that makes it. So a result that is
found is the one that would be computed, and nothing is lost with it but time: what is damaged, missing or cannot be
written is computed. A result is there once its ``entry.json`` is; that is created last and only if absent, and tells
size and SHA-256 of each file, whose names are their writer's own. So neither a killed writer nor a second one can leave
half a result or a mixed one.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rewardloop.errors import RewardloopError
from rewardloop.storage import Storage, ask
from rewardloop.transfer import fetch, file_digest, remove

_log = logging.getLogger(__name__)

FOLDER = "kept"
_ENTRY = "entry.json"
_HALF_SECONDS = 24 * 3600.0
"""Nobody writes one result for a day."""
_LEAST_BYTES, _TIMES = 1 << 30, 4
"""What steps leave, at least and beside the batches; ``rewardloop gc`` has a limit of its own."""
_USED_SECONDS = 3600.0
"""How exactly it is known when a result was last used; a store that is away is not written to more often."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    place: str
    """Its name in the result's folder."""
    size: int
    sha256: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1] = 1
    batches: list[str]
    files: dict[str, _File]


@dataclass(frozen=True)
class KeptResult:
    """One result, or what a killed writer left of one."""

    kind: str
    key: str
    is_whole: bool
    size: int
    """Bytes."""
    used_at: float
    """Seconds since the epoch, about."""

    @property
    def place(self) -> str:
        """Its folder in the store."""
        return f"{FOLDER}/{self.kind}/{self.key}"


@functools.cache
def code_fingerprint(*packages: str) -> str:
    """SHA-256 over the library's modules that make a result, and the versions of the libraries that do.

    Args:
        packages: subpackages of ``rewardloop``; its own modules, the settings and the evidence always count.
    """
    root = Path(str(files("rewardloop")))
    folders = [root / name for name in (*packages, "config", "evidence")]
    found = [*root.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    total = hashlib.sha256()
    for path in sorted(found):
        total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    for library in ("polars", "numpy", "scipy", "pandas", "crowd-kit", "krippendorff", "great-expectations"):
        total.update(f"{library} {version(library)}".encode())
    return total.hexdigest()


def key_of(**parts: object) -> str:
    """The key of a result that ``parts`` (of plain JSON) decide."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Kept:
    """The results that are kept in one store."""

    storage: Storage

    def fetch(self, kind: str, key: str, folder: Path) -> dict[str, Path] | None:
        """The result's files by name, in ``folder``; None where it is not kept, or damaged. They stay there, whatever
        becomes of the kept ones."""
        try:
            entry = self._read_entry(kind, key)
        except (OSError, ValidationError) as error:
            if isinstance(error, ValidationError):
                self._remove_damaged(kind, key)
            return None
        found = {}
        for name, file in entry.files.items():
            target = folder / name
            try:
                fetch(self.storage, f"{_place(kind, key)}/{file.place}", target)
                sound = target.stat().st_size == file.size and file_digest(target) == file.sha256
            except OSError:
                sound = False
            if not sound:
                self._remove_damaged(kind, key)
                return None
            found[name] = target
        self._use(kind, key)
        return found

    def read(self, kind: str, key: str) -> dict[str, bytes] | None:
        """``fetch`` of a small result, as bytes."""
        with tempfile.TemporaryDirectory(prefix="rewardloop-kept-") as folder:
            found = self.fetch(kind, key, Path(folder))
            return None if found is None else {name: path.read_bytes() for name, path in found.items()}

    def keep(self, kind: str, key: str, content: Mapping[str, Path | bytes], batches: Iterable[str]) -> None:
        """Keep a result.

        Args:
            kind: what it is, a folder's name.
            key: ``key_of`` all that decides it.
            content: file name -> the file or its bytes; one file is held in memory at a time.
            batches: digests of the batches that anything of it comes from: it goes when one of them does.
        """
        place, mark = _place(kind, key), secrets.token_hex(4)
        made: dict[str, _File] = {}
        try:
            for name, given in content.items():
                data = given if isinstance(given, bytes) else given.read_bytes()
                made[name] = _File(place=f"{mark}-{name}", size=len(data), sha256=hashlib.sha256(data).hexdigest())
                self.storage.write(f"{place}/{mark}-{name}", data)
            entry = _Entry(batches=sorted(set(batches)), files=made)
            if self.storage.create(f"{place}/{_ENTRY}", entry.model_dump_json(indent=1).encode()):
                return
        except (RewardloopError, OSError) as error:
            _log.warning("a result (%s) cannot be kept, so it is computed again next time: %s", kind, error)
        for file in made.values():  # somebody else was first, or there is no entry that names them
            with contextlib.suppress(OSError):
                remove(self.storage, f"{place}/{file.place}")

    def results(self) -> list[KeptResult]:
        """Everything that is kept, the one that was used longest ago first."""
        root = self.storage.path(FOLDER)
        self.storage.fs.invalidate_cache()
        files: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        for path, about in ask(self.storage.fs.find, root, detail=True).items():
            kind, _, rest = str(path).removeprefix(f"{root}/").partition("/")
            key, _, name = rest.partition("/")
            files.setdefault((kind, key), {})[name] = about
        found = []
        for (kind, key), named in files.items():
            newest = max(named.values(), key=_written) if _ENTRY not in named else named[_ENTRY]
            size = sum(int(about["size"]) for about in named.values())
            found.append(KeptResult(kind, key, _ENTRY in named, size, _written(newest)))
        return sorted(found, key=lambda one: (one.used_at, one.kind, one.key))

    def batches_of(self, result: KeptResult) -> frozenset[str] | None:
        """Digests of the batches that a result was made of; None where nobody can tell."""
        try:
            return frozenset(self._read_entry(result.kind, result.key).batches)
        except (OSError, ValidationError):
            return None

    def remove(self, kind: str, key: str) -> None:
        """Remove a result: first what makes it one, then its files."""
        place = _place(kind, key)
        remove(self.storage, f"{place}/{_ENTRY}")
        self.storage.fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            for path in ask(self.storage.fs.ls, self.storage.path(place), detail=False):  # half-written files too
                remove(self.storage, f"{place}/{str(path).rsplit('/', 1)[-1]}")
        with contextlib.suppress(OSError):  # another writer's file may have come meanwhile
            remove(self.storage, place)

    def superfluous(self, at_most: int) -> list[KeptResult]:
        """What goes, so that at most so many bytes stay: what killed writers left, then what was used longest ago."""
        results, now = self.results(), time.time()
        gone = [one for one in results if not one.is_whole and now - one.used_at > _HALF_SECONDS]
        left = [one for one in results if one.is_whole]
        total = sum(one.size for one in left)
        for one in left:
            if total <= at_most:
                break
            gone.append(one)
            total -= one.size
        return gone

    def trim(self, at_most: int) -> None:
        """Remove what is ``superfluous``."""
        for one in self.superfluous(at_most):
            self.remove(one.kind, one.key)

    def _read_entry(self, kind: str, key: str) -> _Entry:
        return _Entry.model_validate_json(self.storage.read(f"{_place(kind, key)}/{_ENTRY}"))

    def _remove_damaged(self, kind: str, key: str) -> None:
        _log.warning("kept result %s %s is damaged; it is computed again", kind, key[:12])
        with contextlib.suppress(OSError):  # who may only read leaves it, and computes
            self.remove(kind, key)

    def _use(self, kind: str, key: str) -> None:
        """Say that a result is still of use: every kind of store knows when a file was last written."""
        name = f"{_place(kind, key)}/{_ENTRY}"
        with contextlib.suppress(OSError, RewardloopError):
            if self.storage.is_local:
                os.utime(self.storage.path(name))
            elif time.time() - _written(ask(self.storage.fs.info, self.storage.path(name))) > _USED_SECONDS:
                self.storage.write(name, self.storage.read(name))


def room(size: int) -> int:
    """Bytes that results may take beside batches of ``size`` bytes, whatever nobody ever tidies up."""
    return max(_LEAST_BYTES, _TIMES * size)


def _written(about: Mapping[str, Any]) -> float:
    """When a file was last written, from what a store's driver says of it: seconds since the epoch."""
    at = next((about[name] for name in ("mtime", "LastModified", "updated", "created") if about.get(name)), 0.0)
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return at.timestamp() if isinstance(at, datetime) else float(at)


def _place(kind: str, key: str) -> str:
    return f"{FOLDER}/{kind}/{key}"
