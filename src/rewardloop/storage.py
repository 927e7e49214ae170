"""Files on any fsspec URL: whole or not at all, and created only if absent.

The feedback store, the history of promotions and the claims rest on two promises made here: a reader never sees half a
file, and of several writers that create the same path exactly one succeeds.
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from rewardloop.errors import BadInputError

# fsspec looks and then writes where a driver has nothing better: that is no conditional create. Memory is one process.
_EXCLUSIVE = {"s3", "s3a", "gs", "gcs", "memory"}


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
        return bool(self.fs.exists(self.path(name)))

    def read(self, name: str) -> bytes:
        """Bytes of ``name``; FileNotFoundError when absent."""
        return bytes(self.fs.cat_file(self.path(name)))

    def list(self, folder: str) -> list[str]:
        """Names directly inside ``folder``, sorted; empty when the folder is absent."""
        self.fs.invalidate_cache()
        try:
            entries = self.fs.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return sorted(name for name in names if not name.startswith(".tmp-"))

    def write(self, name: str, data: bytes, *, mode: int | None = None) -> None:
        """Write ``name``, whole or not at all; an existing file is replaced. ``mode`` (local only): permission bits."""
        with self._clear_disk_errors(name):
            if not self.is_local:
                self.fs.pipe_file(self.path(name), data)
                return
            with self._temporary(name, data, mode) as temporary:
                temporary.replace(self.path(name))

    def create(self, name: str, data: bytes, *, mode: int | None = None) -> bool:
        """Create ``name`` only if absent; False when somebody else's is there already. Whole or not at all."""
        with self._clear_disk_errors(name):
            if self.is_local:
                with self._temporary(name, data, mode) as temporary:
                    try:
                        os.link(temporary, self.path(name))
                    except FileExistsError:
                        return False
                    return True
            if not _EXCLUSIVE & set(self._protocols()):
                raise BadInputError(
                    f"store.url: {self.url!r}: this kind of store cannot create a file only if it is absent, so two "
                    "writers could overwrite each other; use a local folder, s3:// or gs://"
                )
            try:
                self.fs.pipe_file(self.path(name), data, mode="create")
            except FileExistsError:
                return False
            return True

    def _protocols(self) -> tuple[str, ...]:
        protocol = self.fs.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    @contextlib.contextmanager
    def _temporary(self, name: str, data: bytes, mode: int | None) -> Any:
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".tmp-")
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
            raise BadInputError(
                f"{self.path(name)}: cannot be written: {error.strerror or error}; "
                "free space, correct the permissions, or choose another store.url"
            ) from error
