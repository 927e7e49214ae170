"""Files that feedback comes in: text, Parquet, Arrow or saved data sets, plain or packed.

In: paths. Out: one ``Source`` per file or zip member, looked at once from end to end and read again row by row: no file
is ever held whole. What a file is, is told by its content, never by its name. Reading stops at a size limit, so that a
small archive can fill neither the memory nor the disk.
"""

import codecs
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rewardloop.config import StoreSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.archives import CHUNK, Content, contents, file_at, spooled
from rewardloop.feedback.temporary_copy import too_large

if TYPE_CHECKING:
    from rewardloop.feedback.columnar import Columns

MAX_BYTES = StoreSettings().max_read_bytes
MAX_ROW = StoreSettings().max_row_characters
"""Where nobody says otherwise."""

_TAR = slice(257, 262), b"ustar"
_BOM = codecs.BOM_UTF8
_NOT_READ = {
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
}


class Source:
    """One file of feedback. ``name`` is a base name (``labels.zip/wiki.csv`` for a zip member).

    ``sha256`` is of the bytes of the file as it lies on disk (for a zip member: of the whole zip file).
    """

    def __init__(
        self,
        name: str,
        text: str | None,
        sha256: str,
        *,
        content: Content | None = None,
        columns: "Columns | None" = None,
        max_row: int = MAX_ROW,
    ) -> None:
        self.name, self.sha256, self.columns, self.max_row = name, sha256, columns, max_row
        self._text, self._content = text, content

    @property
    def path(self) -> Path | None:
        """The file itself where it is plain, not packed; None where it is not."""
        return self._content.plain if self._content else None

    @property
    def text(self) -> str:
        """All of the text at once.

        Raises:
            BadInputError: the file is no text.
        """
        with self.open_text("") as stream:
            return stream.read()

    def open_text(self, newline: str) -> TextIO:
        """The text from its start, without a byte order mark; ``newline`` as of ``open``: ``""`` or ``"\\n"``."""
        if self._text is not None:
            return io.StringIO(self._text, newline=newline)
        if self._content is None or self.columns is not None:
            kind = self.columns.kind if self.columns else "nothing"
            raise BadInputError(f"{self.name}: is {kind}; expected text (JSON lines, a JSON list, CSV or TSV)")
        return io.TextIOWrapper(self._content.open(), encoding="utf-8-sig", newline=newline)


def read_sources(paths: Sequence[Path], *, limit: int = MAX_BYTES, max_row: int = MAX_ROW) -> list[Source]:
    """Look at every path; a zip file gives one source per member, a saved data set one per split.

    Args:
        paths: of files, of folders that ``datasets`` saved, or hub names ``hf://datasets/OWNER/NAME[/SPLIT]``.
        limit: most bytes that all of them together may come to, unpacked (``store.max_read_bytes``).
        max_row: most characters of one row (``store.max_row_characters``).

    Raises:
        BadInputError: a file is missing, unreadable, damaged, empty, too large, or not UTF-8 (byte and line named).
    """
    from rewardloop.feedback.saved_datasets import is_saved, saved_datasets

    if not paths:
        raise BadInputError("no file named; expected at least one file of feedback")
    sources: list[Source] = []
    left = limit
    for path in paths:
        if is_saved(path):
            for name, digest, columns in saved_datasets(path, left):
                left -= columns.size
                sources.append(Source(name, None, digest, columns=columns, max_row=max_row))
            continue
        file = file_at(path, limit)
        digest = file.digest()
        for content in contents(file):
            source, size = _looked_at(content, digest, left, max_row)
            left -= size
            sources.append(source)
    return sources


def _looked_at(content: Content, digest: str, limit: int, max_row: int) -> tuple[Source, int]:
    from rewardloop.feedback.columnar import columns_of, is_columnar

    with content.open() as stream:
        head = stream.read(512)
    if is_columnar(head):
        columns = columns_of(spooled(content, limit), limit)
        return Source(content.name, None, digest, columns=columns, max_row=max_row), columns.size
    _check_kind(content.name, head)
    return Source(content.name, None, digest, content=content, max_row=max_row), _checked_size(content, limit)


def _check_kind(name: str, head: bytes) -> None:
    if head[_TAR[0]] == _TAR[1]:
        raise BadInputError(f"{name}: is a tar archive; give its files, plain or packed as gzip, zstd or zip")
    for magic, kind in _NOT_READ.items():
        if head.startswith(magic):
            raise BadInputError(f"{name}: is {kind}; give it plain or packed as gzip, zstd or zip")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInputError(f"{name}: is UTF-16 (byte 0 is {head[0]:#04x}); save the file as UTF-8")


def _checked_size(content: Content, limit: int) -> int:
    """Bytes of the text, read to its end."""
    size, empty = 0, True
    for text, size in _decoded(content):
        if size > limit:
            raise too_large(content.name, limit)
        empty = empty and not text.lstrip("\ufeff").strip()
    if empty:
        raise BadInputError(f"{content.name}: is empty; expected rows of feedback")
    return size


def _decoded(content: Content) -> Iterator[tuple[str, int]]:
    """The text piece by piece, with the bytes up to there."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    size, lines = 0, 1
    with content.open() as stream:
        while piece := stream.read(CHUNK):
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(piece)
            except UnicodeDecodeError as error:
                raise _not_utf8(content.name, error, size - pending, lines) from error
            size += len(piece)
            lines += piece.count(b"\n")
            yield text, size
    pending = len(decoder.getstate()[0])
    try:
        yield decoder.decode(b"", final=True), size
    except UnicodeDecodeError as error:
        raise _not_utf8(content.name, error, size - pending, lines) from error


def _not_utf8(name: str, error: UnicodeDecodeError, offset: int, lines: int) -> BadInputError:
    # What the decoder still held from before has no line break: such bytes are parts of one character.
    line = lines + error.object.count(b"\n", 0, error.start)
    byte = error.object[error.start]
    return BadInputError(
        f"{name}:{line}: byte {offset + error.start} ({byte:#04x}) is not UTF-8; save the file as UTF-8"
    )
