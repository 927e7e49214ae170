"""What columns would unpack to, found before they are unpacked.

In: the schema, a batch, or an Arrow file as it lies there. Out: bytes, or an error where they are more than a limit.
Layout of messages and of compressed buffers: https://arrow.apache.org/docs/format/Columnar.html
"""

import io
import struct
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from rewardloop.errors import BadInputError
from rewardloop.feedback.temporary_copy import too_large

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_NESTED = 100
_PER_VALUE = 8
"""Bytes of a value that takes none in the file: it takes as much as a list's entry in Python."""


def check_types(name: str, schema: "pa.Schema") -> None:
    """Refuse columns of types that can stand for more than is in the file, or for nothing that feedback has."""
    for field in schema:
        if str(field.type).count("<") > _MOST_NESTED:
            raise BadInputError(f"{name}: column {field.name[:60]!r} is nested more than {_MOST_NESTED} levels deep")
        bad = _bad_type(field.type)
        if bad is not None:
            raise BadInputError(
                f"{name}: column {field.name!r} has the type {bad}, which is not read; write it as texts, numbers, "
                "lists, structs or maps"
            )
    twice = sorted({column for column in schema.names if schema.names.count(column) > 1})
    if twice:
        raise BadInputError(f"{name}: column {twice[0]!r} stands twice; rename one")


def _bad_type(kind: "pa.DataType") -> "pa.DataType | None":
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        return _bad_type(kind.storage_type)
    if types.is_dictionary(kind):
        # A dictionary of lists would be unfolded once per row that names it.
        return kind if types.is_nested(kind.value_type) else _bad_type(kind.value_type)
    if types.is_struct(kind):
        return next((bad for field in kind.fields if (bad := _bad_type(field.type)) is not None), None)
    if types.is_map(kind):
        return _bad_type(kind.key_type) or _bad_type(kind.item_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _bad_type(kind.value_type)
    plain = types.is_null(kind) or types.is_primitive(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return None if plain or text or binary or types.is_binary_view(kind) else kind


def expanded_bytes(batch: "pa.RecordBatch") -> int:
    """What the values of a batch come to once each stands for itself."""
    return sum(_expanded(column) for column in batch.columns) + _PER_VALUE * int(batch.num_rows)


def _expanded(array: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    kind, size = array.type, _PER_VALUE * len(array)
    if isinstance(kind, pa.BaseExtensionType):
        return _expanded(array.storage)
    if types.is_dictionary(kind):
        words = array.dictionary
        if types.is_primitive(kind.value_type) or types.is_null(kind.value_type):
            return size
        lengths = pc.take(_lengths(words), array.indices)
        return size + int(pc.sum(lengths).as_py() or 0)
    if types.is_struct(kind):
        return size + sum(_expanded(child) for child in array.flatten())
    if types.is_map(kind):
        inner = (
            pa.ListArray.from_arrays(array.offsets, array.keys),
            pa.ListArray.from_arrays(array.offsets, array.items),
        )
        return size + sum(_expanded(one.flatten()) for one in inner)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return size + _expanded(array.flatten())
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return size + int(pc.sum(_lengths(array)).as_py() or 0)
    return size + int(array.nbytes)


def _lengths(texts: Any) -> Any:
    """Bytes of each text, as 64-bit numbers, whose sum cannot run over."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_string_view(texts.type) or types.is_binary_view(texts.type):
        return pa.array(_view_lengths(texts), pa.int64())
    return pc.cast(pc.binary_length(texts), pa.int64())


def _view_lengths(texts: Any) -> Iterator[int]:
    # A view is 16 bytes that begin with the length; views may share their text, so that buffers say nothing.
    views = texts.buffers()[1]
    data = memoryview(views)[texts.offset * 16 : (texts.offset + len(texts)) * 16]
    return (length for (length,) in struct.iter_unpack("<i12x", data))


def check_stream(name: str, stream: IO[bytes], limit: int) -> int:
    """Bytes that the messages of an Arrow stream unpack to.

    Raises:
        BadInputError: more than ``limit``.
    """
    from pyarrow import ipc

    return _checked(name, ipc.MessageReader.open_stream(stream), limit)


def check_file(name: str, stream: IO[bytes], limit: int) -> int:
    """The same of an Arrow file, whose table of contents says where the messages are.

    Raises:
        ValueError: it has no table of contents.
    """
    end = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, end - 10))
    tail = stream.read()
    if len(tail) < 10 or tail[4:] != b"ARROW1":
        raise ValueError("it does not end as an Arrow file does")
    (size,) = struct.unpack_from("<i", tail)
    stream.seek(end - 10 - size)
    return _checked(name, _file_messages(stream, stream.read(size)), limit)


def _file_messages(stream: IO[bytes], footer: bytes) -> Iterator[Any]:
    from pyarrow import ipc

    table = _offset(footer, 0)
    for number in (2, 3):  # Footer.dictionaries, Footer.recordBatches
        blocks = _table(footer, table, number)
        if blocks is None:
            continue
        (count,) = struct.unpack_from("<I", footer, blocks)
        for place, _, _ in struct.iter_unpack("<qi4xq", footer[blocks + 4 : blocks + 4 + 24 * count]):
            stream.seek(place)
            yield ipc.read_message(stream)


def _checked(name: str, messages: Iterable[Any], limit: int) -> int:
    total = 0
    for message in messages:
        if message.type not in ("record batch", "dictionary"):
            continue
        body = memoryview(message.body) if message.body is not None else memoryview(b"")
        total += max(len(body), sum(_declared(bytes(memoryview(message.metadata)), body, message.type)))
        if total > limit:
            raise too_large(name, limit)
    return total


def _declared(metadata: bytes, body: memoryview, kind: str) -> Iterator[int]:
    """Of each buffer of a compressed message: the size that it declares in its first eight bytes."""
    batch = _table(metadata, _offset(metadata, 0), 2)  # Message.header
    if kind == "dictionary":
        batch = None if batch is None else _table(metadata, batch, 1)  # DictionaryBatch.data
    if batch is None or _field(metadata, batch, 3) is None:  # RecordBatch.compression
        return
    buffers = _field(metadata, batch, 2)
    if buffers is None:
        return
    start = _offset(metadata, buffers)
    (count,) = struct.unpack_from("<I", metadata, start)
    for offset, length in struct.iter_unpack("<qq", metadata[start + 4 : start + 4 + 16 * count]):
        if length >= 8:
            (size,) = struct.unpack_from("<q", body, offset)
            yield length if size == -1 else size if size >= 0 else 1 << 62


def _offset(data: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a FlatBuffers table keeps a field; None where it does not."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, entries)
    if 4 + 2 * number >= size:
        return None
    (place,) = struct.unpack_from("<H", data, entries + 4 + 2 * number)
    return table + place if place else None


def _table(data: bytes, table: int, number: int) -> int | None:
    place = _field(data, table, number)
    return None if place is None else _offset(data, place)
