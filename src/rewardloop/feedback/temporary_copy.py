"""A stream's bytes on disk, for what cannot be read twice or must be read at any place.

In: a stream and a limit. Out: a temporary file without a name, gone with its last reader.
"""

import io
import os
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

from rewardloop.errors import BadInputError

_CHUNK = 1 << 18


def too_large(name: str, limit: int) -> BadInputError:
    """The error for more than what may be read."""
    return BadInputError(
        f"{name}: more than {limit:,} bytes are left to read at a time (store.max_read_bytes); split it into several "
        "files"
    )


class Copy:
    """A stream's bytes in a temporary file without a name, gone with the last who reads it."""

    def __init__(self, name: str, stream: IO[bytes], limit: int) -> None:
        self._descriptor, path = tempfile.mkstemp()
        weakref.finalize(self, os.close, self._descriptor)
        Path(path).unlink()
        left = limit
        while piece := stream.read(_CHUNK):
            left -= len(piece)
            if left < 0:
                raise too_large(name, limit)
            _write(self._descriptor, piece)

    def open(self) -> IO[bytes]:
        return io.BufferedReader(_Reader(self, self._descriptor), _CHUNK)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class _Reader(io.RawIOBase):
    """Reads with a place of its own, so that several readers do not disturb each other."""

    def __init__(self, copy: Copy, descriptor: int) -> None:
        self._copy, self._descriptor, self._place = copy, descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._descriptor, len(buffer), self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        if start + offset < 0:
            raise ValueError(f"there is no place {start + offset}")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place
