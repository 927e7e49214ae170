"""Rows of a source, one at a time: JSON lines, a JSON list of objects, CSV/TSV, or columns.

In: a ``Source``. Out: ``Record`` s with their place, and rows that cannot be parsed as ``Rejected``. A row is never
held longer than it takes to hand it on, and never larger than ``store.max_row_characters``.
"""

import csv
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import Literal, TextIO

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.json_rows import Record, json_line, json_lines, json_list, too_long
from rewardloop.feedback.importers.outcomes import Rejected, Row
from rewardloop.feedback.reading import Source

__all__ = ["Record", "Shape", "json_line", "rows_of", "shape_of"]

Shape = Literal["table", "json-lines", "json-list", "columns"]
_BEGINS: dict[str, Shape] = {"{": "json-lines", "[": "json-list"}
_BUFFER = 1 << 16


def shape_of(source: Source) -> Shape:
    """What the source is, by its first character."""
    if source.columns is not None:
        return "columns"
    with source.open_text("") as stream:
        while piece := stream.read(_BUFFER):
            if piece.lstrip():
                return _BEGINS.get(piece.lstrip()[0], "table")
    return "table"


def rows_of(source: Source, shape: Shape) -> Generator[Record | Rejected, None, None]:
    """Every row of the source, in order."""
    return _ROWS[shape](source)


class _Lines:
    """Lines for the csv module; ``used`` counts the characters of the row that it is reading."""

    def __init__(self, source: Source, stream: TextIO) -> None:
        self.source, self.stream = source, stream
        self.number, self.used = 0, 0

    def __iter__(self) -> Iterator[str]:
        limit = self.source.max_row
        while line := self.stream.readline(limit + 1):
            self.number += 1
            self.used += len(line)
            if self.used > limit:
                # Where the row ends is unknown: it may be an open quote that swallows the rest of the file.
                raise BadInputError(f"{self.source.name}:{self.number}: the row that reaches here {too_long(limit)}")
            yield line


def _csv_rows(source: Source) -> Generator[Record | Rejected, None, None]:
    name = source.name
    csv.field_size_limit(max(source.max_row + 1, csv.field_size_limit()))
    with source.open_text("") as stream:
        lines = _Lines(source, stream)
        reader = csv.reader(iter(lines), delimiter=_delimiter(source), strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            lines.used = 0
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    # The open quote swallowed every row behind it: how many is unknown, so the file is refused whole.
                    raise BadInputError(
                        f"{name}:{line}: a quote in this row is never closed; close or double it"
                    ) from error
                if reader.line_num > line:
                    # An open quote swallowed whole rows up to the next one: how many is unknown.
                    raise BadInputError(
                        f"{name}:{line}: a quote in this row opens a cell that reaches to line {reader.line_num} and "
                        f"is no CSV there ({error}); close or double the quote"
                    ) from error
                yield Rejected(Row(f"{name}:{line}", None), f"is not CSV: {error}")
                continue
            if not cells:
                continue
            if header is None:
                header = _header(f"{name}:{line}", cells)
            elif len(cells) != len(header):
                over = "" if reader.line_num == line else f" up to line {reader.line_num}"
                reason = f"has {len(cells)} cells{over}; the header has {len(header)}"
                yield Rejected(Row(f"{name}:{line}", None), reason)
            else:
                yield Record(f"{name}:{line}", dict(zip(header, cells, strict=True)))


def _header(place: str, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = min((cell for cell, times in Counter(header).items() if times > 1), default=None)
    if twice is not None:
        raise BadInputError(f"{place}: column {twice[:60]!r} stands twice in the header; rename one")
    return header


def _delimiter(source: Source) -> str:
    with source.open_text("") as stream:
        while line := stream.readline(source.max_row + 1):
            if line.strip("\r\n"):
                return max(",\t;", key=line.count)
    return ","


def _columns(source: Source) -> Generator[Record | Rejected, None, None]:
    from rewardloop.feedback.columnar import UnusableRowError, rows

    assert source.columns is not None
    for number, values in enumerate(rows(source.name, source.columns, source.max_row), start=1):
        place = f"{source.name}:{number}"
        yield Rejected(Row(place, None), str(values)) if isinstance(values, UnusableRowError) else Record(place, values)


_ROWS: dict[Shape, Callable[[Source], Generator[Record | Rejected, None, None]]] = {
    "table": _csv_rows,
    "json-lines": json_lines,
    "json-list": json_list,
    "columns": _columns,
}
