"""Parquet and Arrow files as rows of plain values, in bounded memory.

In: a ``Content`` that begins like one of them, or record batches from elsewhere. Out: ``Columns``, whose rows are what
a JSON line would hold. Such files can say much more than they hold (a dictionary's word repeated a million times,
columns that unpack a thousandfold): what a batch would come to is counted before it is made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from rewardloop.errors import BadInputError
from rewardloop.feedback.archives import Content
from rewardloop.feedback.columnar_classes import named, schema_classes
from rewardloop.feedback.columnar_limits import check_file, check_stream, check_types, expanded_bytes
from rewardloop.feedback.parquet_pages import check_pages
from rewardloop.feedback.temporary_copy import too_large

if TYPE_CHECKING:
    import pyarrow as pa

_PARQUET = b"PAR1"
_ARROW_FILE = b"ARROW1\x00\x00"
_ARROW_STREAM = b"\xff\xff\xff\xff"
_ROWS = 1_024


@dataclass(frozen=True)
class Columns:
    """Rows by column. ``kind`` says what the file is, ``size`` the bytes that it declares to unpack to."""

    kind: str
    names: tuple[str, ...]
    batches: Callable[[], Iterator["pa.RecordBatch"]]
    size: int
    limit: int
    """Most bytes that all values together may come to."""


class UnusableRowError(ValueError):
    """Why a row cannot be taken: too large, or no text."""


def is_columnar(head: bytes) -> bool:
    """Whether a file with these first bytes is Parquet or Arrow."""
    return head.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM))


def columns_of(content: Content, limit: int) -> Columns:
    """The columns of a Parquet file, an Arrow file or an Arrow stream.

    Args:
        content: seekable.
        limit: most bytes that it may come to.

    Raises:
        BadInputError: damaged, too large, or with column types that no format of feedback has.
    """
    with content.open() as stream:
        head = stream.read(len(_ARROW_FILE))
    if head.startswith(_PARQUET):
        return _parquet(content, limit)
    return _arrow(content, limit, in_file=head == _ARROW_FILE)


def rows(name: str, columns: Columns, max_row: int) -> Iterator[dict[str, Any] | UnusableRowError]:
    """The rows in order; fields that are null are left out, as JSON would.

    Raises:
        BadInputError: damage that was not seen before, or more than ``columns.limit`` bytes of values.
    """
    left = columns.limit
    with refusing(name, columns.kind):
        for batch in columns.batches():
            size = expanded_bytes(batch)
            left -= size
            if left < 0:
                raise too_large(name, columns.limit)
            for piece in _pieces(batch, size, max_row):
                if isinstance(piece, UnusableRowError):
                    yield piece
                else:
                    for row in piece.to_pylist():
                        yield _plain_row(row)


class refusing:  # noqa: N801 - reads as the statement that it is
    """What the library raises on damage becomes an error for the user; it has many names for it."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, BadInputError):
            reason = str(error).partition("\n")[0][:300] or type(error).__name__
            raise BadInputError(
                f"{self.name}: {self.kind} is damaged or cannot be read: {reason}; write it again"
            ) from error


def _pieces(batch: "pa.RecordBatch", size: int, max_row: int) -> Iterator["pa.RecordBatch | UnusableRowError"]:
    """The batch in halves small enough to be made into Python values."""
    if size <= max_row:
        yield batch
    elif batch.num_rows <= 1:
        yield UnusableRowError(f"has {size:,} bytes; at most {max_row:,} in a row (store.max_row_characters)")
    else:
        half = batch.num_rows // 2
        for piece in (batch.slice(0, half), batch.slice(half)):
            yield from _pieces(piece, expanded_bytes(piece), max_row)


def _parquet(content: Content, limit: int) -> Columns:
    import pyarrow.parquet as pq

    kind = "the Parquet file"

    def open_file(read_dictionary: list[str] | None = None) -> pq.ParquetFile:
        source = str(content.plain) if content.plain else content.open()
        return pq.ParquetFile(source, read_dictionary=read_dictionary, pre_buffer=False, memory_map=False)

    with refusing(content.name, kind), open_file() as file:
        schema, metadata = file.schema, file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
        if size > limit or any(chunk.total_uncompressed_size < 0 for chunk in chunks):
            raise too_large(content.name, limit)
        check_types(content.name, file.schema_arrow)
        with content.open() as stream:
            check_pages(stream, chunks)
        leaves = [schema.column(number) for number in range(len(schema))]
        words = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        names, classes = tuple(file.schema_arrow.names), schema_classes(file.schema_arrow)

    def batches() -> Iterator["pa.RecordBatch"]:
        with open_file(words) as file:
            for group in range(len(groups)):  # no batch may reach over two: their dictionaries differ
                for batch in file.iter_batches(_ROWS, row_groups=[group], use_threads=False):
                    batch.validate(full=True)
                    yield batch

    return Columns(kind, names, lambda: named(batches(), classes), size, limit)


def _arrow(content: Content, limit: int, *, in_file: bool) -> Columns:
    from pyarrow import ipc

    kind = "the Arrow file"

    def open_it(stream: IO[bytes]) -> "tuple[pa.Schema, Iterator[pa.RecordBatch]]":
        if not in_file:
            reader = ipc.open_stream(stream)
            return reader.schema, iter(reader)
        file = ipc.open_file(stream)
        return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))

    with refusing(content.name, kind):
        with content.open() as stream:
            check = check_file if in_file else check_stream
            size = check(content.name, stream, limit)
        with content.open() as stream:
            schema, _ = open_it(stream)
        check_types(content.name, schema)
        classes = schema_classes(schema)

    def batches() -> Iterator["pa.RecordBatch"]:
        with content.open() as stream:
            for batch in open_it(stream)[1]:
                batch.validate(full=True)
                yield from (batch.slice(start, _ROWS) for start in range(0, batch.num_rows, _ROWS))

    return Columns(kind, tuple(schema.names), lambda: named(batches(), classes), size, limit)


def _plain_row(row: dict[str, Any]) -> dict[str, Any] | UnusableRowError:
    try:
        return {name: _plain(value) for name, value in row.items() if value is not None}
    except ValueError as error:
        return UnusableRowError(f"holds a value that is no text: {error}")


def _plain(value: Any) -> Any:
    """The value as JSON would hold it. A struct cannot leave a field out: null stands for that."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        if value and all(isinstance(pair, tuple) for pair in value):
            return _mapping(value)
        return [_plain(inner) for inner in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return str(value)


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found = {str(_plain(name)): _plain(value) for name, value in pairs if value is not None}
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice in a map")
    return found
