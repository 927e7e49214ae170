"""What is packed is read as a stream: gzip, zstd, and zip files of plain, gzip or zstd members.

In: a path. Out: one ``Content`` per file or zip member, whose bytes can be read again and again, from the start.
Nothing is extracted under a name: member names are only shown. What cannot be read twice or needs seeking goes to a
temporary file without a name.
"""

import functools
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from rewardloop.errors import BadInputError
from rewardloop.feedback.temporary_copy import Copy, too_large

CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PACKED = (_GZIP, _ZSTD, *_ZIP)
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Python unpacks any other method without a limit on what one read gives."""
_WINDOW = 1 << 27
"""What zstd's own programs take at most unless told otherwise."""
_ZSTD_INPUT = 1 << 11
"""A zstd block of 4 bytes may give 128 KiB: fed in small pieces, one read gives 64 MiB at most."""
_DAMAGE = (OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, zstandard.ZstdError)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Content:
    """The unpacked bytes of one file. ``name`` is a base name (``labels.zip/wiki.csv`` for a zip member)."""

    name: str
    open: Callable[[], IO[bytes]]
    plain: Path | None = None
    """The file itself, where it is not packed."""


@dataclass(frozen=True)
class File:
    """A file as it lies there, which gives its bytes as often as it is opened."""

    path: Path
    open: Callable[[], IO[bytes]]
    regular: bool

    def digest(self) -> str:
        """SHA-256 of its bytes."""
        with self.open() as stream:
            return hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()


def contents(file: File) -> Iterator[Content]:
    """The file, or every file of the zip archive.

    Raises:
        BadInputError: a damaged archive, or one of a kind that is not read. Damage further inside comes up when the
            content is read.
    """
    path = file.path
    with file.open() as stream:
        head = stream.read(4)
    if not head.startswith(_ZIP):
        plain = file.regular and not head.startswith((_GZIP, _ZSTD))
        yield Content(path.name, lambda: unpacked(path.name, file.open()), path if plain else None)
        return
    archive = _zip(path.name, file.open)
    members = [info for info in archive.infolist() if _is_content(info)]
    if any(info.filename == "[Content_Types].xml" for info in members):
        raise BadInputError(f"{path.name}: is an Office document; save the sheet as CSV")
    if not members:
        raise BadInputError(f"{path.name}: the zip file holds no files")
    for info in members:
        shown = f"{path.name}/{_CONTROL.sub('?', Path(info.filename).name)}"
        yield Content(shown, functools.partial(_member, path.name, shown, archive, info))


def spooled(content: Content, limit: int) -> Content:
    """The same content, unpacked once into a nameless temporary file, so that it can be read at any place."""
    if content.plain:
        return content
    with content.open() as stream:
        copy = Copy(content.name, stream, limit)
    return Content(content.name, copy.open)


def unpacked(name: str, stream: IO[bytes]) -> IO[bytes]:
    """The stream behind gzip or zstd; the stream itself where it is neither.

    Raises:
        BadInputError: what is packed is packed inside, or the packing is damaged (when read, too).
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(Any, stream), CHUNK)
    with _Refusing(name, "file"):
        head = buffered.peek(4)[:4]
    if head.startswith(_GZIP):
        inner = _guarded(name, "gzip", cast(IO[bytes], gzip.GzipFile(fileobj=buffered)), buffered)
    elif head.startswith(_ZSTD):
        inner = _guarded(name, "zstd", cast(IO[bytes], _Unzstd(buffered)), buffered)
    else:
        return buffered
    if inner.peek(4)[:4].startswith(_PACKED):
        inner.close()
        raise BadInputError(f"{name}: is packed twice; unpack the outer one")
    return inner


def file_at(path: Path, limit: int) -> File:
    """The file of this path; one that gives its bytes once (a pipe) is copied.

    Raises:
        BadInputError: missing, unreadable, a folder, or larger than ``limit`` bytes as it lies there.
    """
    try:
        if path.is_dir():
            raise BadInputError(f"{path}: is a folder; name its files")
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            with path.open("rb") as stream:
                return File(path, Copy(str(path), stream, limit).open, False)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise _unreadable(path, error) from error
    if found.st_size > limit:
        raise too_large(str(path), limit)

    def open_again() -> IO[bytes]:
        """The file from its start."""
        try:
            stream = path.open("rb", buffering=CHUNK)
        except OSError as error:
            raise _unreadable(path, error) from error
        now = os.fstat(stream.fileno())
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (found.st_ino, found.st_size, found.st_mtime_ns):
            stream.close()
            raise BadInputError(f"{path}: was changed while it was read; start again when it is complete")
        return stream

    return File(path, open_again, True)


def _unreadable(path: Path, error: Exception) -> BadInputError:
    return BadInputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _zip(name: str, open_file: Callable[[], IO[bytes]]) -> zipfile.ZipFile:
    stream = open_file()
    try:
        archive = zipfile.ZipFile(stream)
    except (*_DAMAGE, EOFError, NotImplementedError) as error:
        stream.close()
        raise BadInputError(f"{name}: the zip file is damaged: {error}; fetch or pack it again") from error
    weakref.finalize(archive, stream.close)
    return archive


def _is_content(info: zipfile.ZipInfo) -> bool:
    # macOS adds a __MACOSX folder and .DS_Store files to every archive it packs.
    hidden = info.filename.startswith("__MACOSX/") or Path(info.filename).name.startswith(".")
    return not info.filename.endswith("/") and not hidden


def _member(name: str, shown: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.compress_type not in _ZIP_METHODS:
        raise BadInputError(
            f"{name}: the zip file cannot be unpacked: {shown} is packed by method {info.compress_type}; pack it "
            "again by the common one (deflate)"
        )
    try:
        stream = archive.open(info)
    except (*_DAMAGE, EOFError) as error:
        raise BadInputError(f"{name}: the zip file is damaged: {error}; fetch or pack it again") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or patched data
        raise BadInputError(f"{name}: the zip file cannot be unpacked: {error}") from error
    inner = _guarded(name, "zip", stream)
    if inner.peek(4)[:4].startswith(_ZIP):
        inner.close()
        raise BadInputError(f"{shown}: is a zip file inside a zip file; unpack the outer one")
    return unpacked(shown, inner)


class _Refusing:
    """Damage of what is packed becomes an error for the user."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        mend = "fetch or pack it again"
        if isinstance(error, EOFError):
            raise BadInputError(f"{self.name}: the {self.kind} file is truncated; {mend}") from error
        if isinstance(error, _DAMAGE) and not isinstance(error, BadInputError):
            raise BadInputError(f"{self.name}: the {self.kind} file is damaged: {error}; {mend}") from error


class _Guarded(io.RawIOBase):
    def __init__(self, name: str, kind: str, inner: IO[bytes], *owned: Any) -> None:
        self._refusing, self._inner, self._owned = _Refusing(name, kind), inner, owned

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._refusing:
            data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            for one in (self._inner, *self._owned):
                one.close()
        super().close()


def _guarded(name: str, kind: str, inner: IO[bytes], *owned: Any) -> io.BufferedReader:
    return io.BufferedReader(_Guarded(name, kind, inner, *owned), CHUNK)


class _Unzstd(io.RawIOBase):
    """Frames one after another; a frame that does not end is an ``EOFError``, which zstandard's own reader hides."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._context = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._frame: Any = None
        self._input = b""
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out:
            piece = self._input or self._stream.read(_ZSTD_INPUT)
            if not piece:
                if self._frame is not None:
                    raise EOFError("a frame does not end")
                return 0
            self._frame = self._frame or self._context.decompressobj()
            self._out = memoryview(self._frame.decompress(piece))
            self._input = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._out))
        buffer[:size] = self._out[:size]
        self._out = self._out[size:]
        return size
