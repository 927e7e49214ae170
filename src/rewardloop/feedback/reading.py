"""Files that feedback comes in: plain, gzip or zip, as UTF-8 text.

In: paths. Out: one ``Source`` per file or zip member. Compression is told by content, never by the file's name; nothing
is extracted to disk and member names are only shown. Reading stops at a size limit, so that a small archive cannot fill
the memory.
"""

import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rewardloop.config import StoreSettings
from rewardloop.errors import BadInputError

MAX_BYTES = StoreSettings().max_read_bytes
"""Where nobody says otherwise."""

_GZIP = b"\x1f\x8b"
_TAR = slice(257, 262), b"ustar"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Source:
    """The text of one file. ``name`` is a base name (``labels.zip/wiki.csv`` for a zip member)."""

    name: str
    text: str
    sha256: str
    """Of the bytes of the file as it lies on disk (for a zip member: of the whole zip file)."""


def read_sources(paths: Sequence[Path], *, limit: int = MAX_BYTES) -> list[Source]:
    """Read every path; a zip file gives one source per member.

    Args:
        paths: of files.
        limit: most bytes that all of them together may come to, unpacked (``store.max_read_bytes``).

    Raises:
        BadInputError: a file is missing, unreadable, damaged, empty, too large, or not UTF-8 (byte and line named).
    """
    if not paths:
        raise BadInputError("no file named; expected at least one file of feedback")
    sources: list[Source] = []
    left = limit
    for path in paths:
        data = _bytes_of(path, limit)
        digest = hashlib.sha256(data).hexdigest()
        for name, content in _unpacked(path.name, data, left):
            left -= len(content)
            sources.append(Source(name=name, text=_decoded(name, content), sha256=digest))
    return sources


def _bytes_of(path: Path, limit: int) -> bytes:
    try:
        if path.is_dir():
            raise BadInputError(f"{path}: is a folder; name its files")
        if path.stat().st_size > limit:
            raise _too_large(str(path), limit)
        return path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _unpacked(name: str, data: bytes, limit: int) -> Iterator[tuple[str, bytes]]:
    if not data.startswith(_ZIP):
        yield name, _gunzipped(name, data, limit)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if _is_content(info)]
            if not members:
                raise BadInputError(f"{name}: the zip file holds no files")
            for info in members:
                shown = f"{name}/{_CONTROL.sub('?', Path(info.filename).name)}"
                with archive.open(info) as stream:
                    content = stream.read(limit + 1)
                if len(content) > limit:
                    raise _too_large(shown, limit)
                if content.startswith(_ZIP):
                    raise BadInputError(f"{shown}: is a zip file inside a zip file; unpack the outer one")
                content = _gunzipped(shown, content, limit)
                limit -= len(content)
                yield shown, content
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInputError(f"{name}: the zip file is damaged: {error}; fetch or pack it again") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed by a method Python does not know
        raise BadInputError(f"{name}: the zip file cannot be unpacked: {error}") from error


def _is_content(info: zipfile.ZipInfo) -> bool:
    # macOS adds a __MACOSX folder and .DS_Store files to every archive it packs.
    hidden = info.filename.startswith("__MACOSX/") or Path(info.filename).name.startswith(".")
    return not info.is_dir() and not hidden


def _gunzipped(name: str, data: bytes, limit: int) -> bytes:
    if data.startswith(_GZIP):
        try:
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(limit + 1)
        except EOFError as error:
            raise BadInputError(f"{name}: the gzip file is truncated; fetch or pack it again") from error
        except (OSError, zlib.error) as error:
            raise BadInputError(f"{name}: the gzip file is damaged: {error}; fetch or pack it again") from error
    if len(data) > limit:
        raise _too_large(name, limit)
    return data


def _too_large(name: str, limit: int) -> BadInputError:
    return BadInputError(
        f"{name}: more than {limit:,} bytes are left to read at a time (store.max_read_bytes); split it into several "
        "files"
    )


def _decoded(name: str, data: bytes) -> str:
    if data[_TAR[0]] == _TAR[1]:
        raise BadInputError(f"{name}: is a tar archive; give its files, plain or packed as zip or gzip")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInputError(f"{name}: is UTF-16 (byte 0 is {data[0]:#04x}); save the file as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the byte order mark.
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        raise BadInputError(
            f"{name}:{line}: byte {start} ({data[start]:#04x}) is not UTF-8; save the file as UTF-8"
        ) from error
    if not text.strip():
        raise BadInputError(f"{name}: is empty; expected rows of feedback")
    return text
