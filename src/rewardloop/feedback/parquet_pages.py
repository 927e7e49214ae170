"""Whether the pages of a Parquet file unpack to what its table of contents says.

In: the file and its column chunks. Out: an error where a page says more: a reader would believe the page. Layout:
https://parquet.apache.org/docs/file-format/ and Thrift's compact protocol.
"""

from collections.abc import Sequence
from typing import IO, Any

_PAGE_HEADER = (1 << 10, 1 << 24)
"""Bytes in which a page header mostly ends, and must end: its statistics hold a smallest and a largest value."""


def check_pages(stream: IO[bytes], chunks: Sequence[Any]) -> None:
    """Compare what the pages of column chunks say with what the file's table of contents says.

    Raises:
        ValueError: a page unpacks to more than its whole column chunk should, or its header cannot be read.
    """
    for chunk in chunks:
        if chunk.num_values == 0:  # nobody reads its pages, and some writers give it none
            continue
        first = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
        place = min(one for one in (first, chunk.data_page_offset) if one is not None)
        end = place + chunk.total_compressed_size
        left = chunk.total_uncompressed_size
        while place < end:
            header, unpacked, packed = _page_header(stream, place, end)
            left -= unpacked  # some writers count the headers in, others do not
            if unpacked < 0 or packed < 0 or left < 0:
                raise ValueError(f"the page at byte {place} says another size than the table of contents")
            place += header + packed


def _page_header(stream: IO[bytes], place: int, end: int) -> tuple[int, int, int]:
    """Length of the header, and bytes of the page unpacked and packed."""
    for size in _PAGE_HEADER:
        stream.seek(place)
        reader = _Compact(stream.read(min(size, end - place)))
        try:
            fields = reader.struct()
        except EOFError:
            continue
        if {2, 3} <= fields.keys():
            return reader.place, fields[2], fields[3]
        raise ValueError("a page header has no sizes")
    raise ValueError("a page header does not end")


class _Compact:
    """As much of Thrift's compact protocol as a page header takes: numbers are read, the rest is skipped."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def struct(self, depth: int = 0) -> dict[int, int]:
        """Field number -> value of the integers of a Thrift struct; all else is passed over."""
        if depth > 8:
            raise ValueError("a page header is nested too deeply")
        fields: dict[int, int] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._number()
            value = self._value(kind & 15, depth)
            if value is not None:
                fields[number] = value
        return fields

    def _byte(self) -> int:
        if self.place >= len(self.data):
            raise EOFError
        self.place += 1
        return self.data[self.place - 1]

    def _varint(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result
            if shift > 63:
                raise ValueError("a number of a page header does not end")

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, depth: int) -> int | None:
        if kind in (1, 2):  # true, false: the kind is the value
            return None
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._number()
        if kind == 7:
            self.place += 8
        elif kind == 8:
            size = self._varint()
            self.place += size
        elif kind == 12:
            self.struct(depth + 1)
        else:
            raise ValueError(f"a page header has a field of kind {kind}")
        return None
