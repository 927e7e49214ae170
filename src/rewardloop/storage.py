"""Files on any fsspec URL: whole or not at all, and created only if absent.

In: a URL, names and bytes. Out: the feedback store, the history of promotions and the claims rest on two promises made
here: a reader never sees half a file, and of several writers that create the same path exactly one succeeds. A store
that is away for a moment is asked again.
"""

import contextlib
import errno
import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import fsspec
import stamina
import stamina.instrumentation
from fsspec.implementations.local import LocalFileSystem

from rewardloop.errors import BadInputError

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

# fsspec looks and then writes where a driver has nothing better: that is no conditional create. Memory is one process.
_EXCLUSIVE = {"s3", "s3a", "gs", "gcs", "memory"}

_RETRIES = stamina.RetryingCaller(attempts=6, timeout=45.0, wait_initial=0.2, wait_max=8.0, wait_jitter=1.0)
"""The one place that says how long a store may be away: seconds, with exponential backoff and jitter."""

# Who tries again says what for; stamina's own line holds an event's name and nothing else.
stamina.instrumentation.set_on_retry_hooks([])

_LASTING = {
    errno.EACCES, errno.EDQUOT, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSPC, errno.ENOSYS,
    errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS,
}  # fmt: skip
_LASTING_TYPES = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

_TEMPORARY = ".tmp-"
"""How names of files begin that are being written."""

_checked: set[str] = set()
"""Remote stores that were seen to refuse a second creation, by URL."""


class StoreError(BadInputError):
    """The store cannot be written to, or is away: no fault of what was to be written."""


@dataclass(frozen=True)
class Storage:
    """A folder on a file system; every path is relative to it, with forward slashes."""

    url: str
    fs: Any
    root: str

    @classmethod
    def open(cls, url: str) -> "Storage":
        """Open ``url``: a local path or any URL fsspec knows.

        Raises:
            BadInputError: the protocol is unknown or its driver is not installed.
        """
        try:
            fs, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise BadInputError(f"store.url: {url!r} cannot be opened: {error}") from error
        return cls(url=url, fs=fs, root=str(root).rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether files lie on this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Full path of ``name`` on the file system."""
        return f"{self.root}/{name}" if name else self.root

    def exists(self, name: str) -> bool:
        """Whether ``name`` is there."""
        # fsspec's exists() takes every error for "no", one of the network too.
        self.fs.invalidate_cache()
        try:
            ask(self.fs.info, self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def read(self, name: str) -> bytes:
        """Bytes of ``name``; FileNotFoundError when absent."""
        return bytes(ask(self.fs.cat_file, self.path(name)))

    def list(self, folder: str) -> list[str]:
        """Names directly inside ``folder``, sorted; empty when the folder is absent."""
        self.fs.invalidate_cache()
        try:
            entries = ask(self.fs.ls, self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return sorted(name for name in names if not name.startswith(_TEMPORARY))

    def leftovers(self, older_than_seconds: float) -> tuple[Path, ...]:
        """Temporary files of writers that were killed; a local folder only: object stores keep no half of a file."""
        if not self.is_local:
            return ()
        before = time.time() - older_than_seconds
        found = (path for path in Path(self.root).rglob(f"{_TEMPORARY}*") if path.lstat().st_mtime < before)
        return tuple(sorted(found))

    def write(self, name: str, data: bytes, *, mode: int | None = None) -> None:
        """Write ``name``, whole or not at all; an existing file is replaced. ``mode`` (local only): permission bits."""
        with self._clear_disk_errors(name):
            if self.is_local:
                ask(self._replace, name, data, mode)
            else:
                ask(self.fs.pipe_file, self.path(name), data)

    def create(self, name: str, data: bytes, *, mode: int | None = None) -> bool:
        """Create ``name`` only if absent; False when somebody else's is there already. Whole or not at all.

        On an object store the answer to a creation that succeeded may be lost, and whoever asks again finds the file:
        a file with equal content is therefore taken for one's own. Content that decides between writers must name its
        writer.

        Raises:
            BadInputError: the store cannot create a file only if it is absent.
            StoreError: the store cannot be written.
        """
        with self._clear_disk_errors(name):
            if self.is_local:
                return ask(self._link, name, data, mode)
            self._check_exclusive()
            if self._put_new(name, data):
                return True
            return self.read(name) == data

    def _replace(self, name: str, data: bytes, mode: int | None) -> None:
        with self._temporary(name, data, mode) as temporary:
            temporary.replace(self.path(name))

    def _link(self, name: str, data: bytes, mode: int | None) -> bool:
        with self._temporary(name, data, mode) as temporary:
            try:
                os.link(temporary, self.path(name))
            except FileExistsError:
                return False
            return True

    def _put_new(self, name: str, data: bytes) -> bool:
        try:
            ask(self.fs.pipe_file, self.path(name), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if _status(error) != 412:  # "precondition failed", in the words of servers other than Amazon's
                raise
            return False
        return True

    def _check_exclusive(self) -> None:
        """Servers that speak S3 and ignore the condition would let two writers overwrite each other: try it once."""
        able = _EXCLUSIVE & set(self._protocols())
        if able and self.url not in _checked:
            probe = f"{_TEMPORARY}{secrets.token_hex(8)}"
            able = {"yes"} if self._put_new(probe, b"1") and not self._put_new(probe, b"2") else set()
            with contextlib.suppress(OSError):
                ask(self.fs.rm_file, self.path(probe))
        if not able:
            raise BadInputError(
                f"store.url: {self.url!r}: this kind of store cannot create a file only if it is absent, so two "
                "writers could overwrite each other; use a local folder, s3:// or gs://"
            )
        _checked.add(self.url)

    def _protocols(self) -> tuple[str, ...]:
        protocol = self.fs.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    @contextlib.contextmanager
    def _temporary(self, name: str, data: bytes, mode: int | None) -> Any:
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=_TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes files private; what is not secret follows the umask-independent default of 0644.
            Path(temporary).chmod(0o644 if mode is None else mode)
            yield Path(temporary)
        finally:
            Path(temporary).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _clear_disk_errors(self, name: str) -> Any:
        try:
            yield
        except OSError as error:
            mend = (
                "free space, correct the permissions, or choose another store.url"
                if isinstance(error, PermissionError) or error.errno in _LASTING
                else "the store did not answer for long; try again when it does"
            )
            raise StoreError(f"{self.path(name)}: cannot be written: {error.strerror or error}; {mend}") from error


def ask(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a store's driver, again where the error may pass; a driver's own error types become OSError."""
    try:
        return _RETRIES(_may_pass, call, *args, **kwargs)
    except _driver_errors() as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError):
        passes = not (isinstance(error, _LASTING_TYPES) or error.errno in _LASTING or _status(error) == 412)
    else:
        passes = isinstance(error, _driver_errors(connection=True))
    if passes:
        _log.warning("the store does not answer (%s: %s); it is asked again", type(error).__name__, error)
    return passes


def _driver_errors(*, connection: bool = False) -> tuple[type[Exception], ...]:
    """Errors of the drivers that are loaded and are no OSError; ``connection``: only those of the network."""
    botocore, aiohttp = sys.modules.get("botocore.exceptions"), sys.modules.get("aiohttp")
    names = ("ConnectionError", "HTTPClientError") if connection else ("BotoCoreError", "ClientError")
    found = [getattr(botocore, name) for name in names] if botocore else []
    return (*found, *([aiohttp.ClientError] if aiohttp else []))


def _status(error: OSError) -> int | None:
    """HTTP status of an error that came from S3."""
    response = getattr(error.__cause__, "response", None)
    found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    return found if isinstance(found, int) else None
