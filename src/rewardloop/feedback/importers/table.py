"""A file as rows with named columns: JSON lines, a JSON list of objects, or CSV/TSV with a header.

In: a ``Source``. Out: ``Record`` s with their place (``labels.csv:17``: the line where the row begins, or its number in
a JSON list), and rows that cannot be parsed as ``Rejected``. Also the few ways in which importers look at a cell.
"""

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import WITHHELD, LabelerId, Options, Rejected, Row, RowError
from rewardloop.feedback.reading import Source
from rewardloop.storage import Storage

MAX_CELL = 64 << 20
"""Most characters of one CSV cell (the csv module's own limit is 131,072)."""

_SAMPLE = 20
_SPACE = re.compile(r"[ \t\r\n]*")

Shape = Literal["table", "json-lines", "json-list"]
_LOOKS: dict[Shape, str] = {
    "table": "a table with the columns",
    "json-lines": "JSON lines with the keys",
    "json-list": "a JSON list with the keys",
}
_BEGINS: dict[str, Shape] = {"{": "json-lines", "[": "json-list"}


@dataclass(frozen=True)
class Record:
    """One parsed row."""

    place: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A file seen as rows; ``columns`` is the header, or the keys of the first JSON objects."""

    name: str
    text: str
    shape: Shape
    columns: tuple[str, ...]
    first: tuple[Record, ...]
    """The first rows, for recognizing the format."""
    store: Storage | None = None
    """Where the rows go, for formats whose files name things that only the store knows."""

    @classmethod
    def of(cls, source: Source, store: Storage | None = None) -> "Table":
        """Look at the first rows of a source.

        Raises:
            BadInputError: no row can be read, or the header is unusable.
        """
        shape = _BEGINS.get(source.text.lstrip()[:1], "table")
        problem: Rejected | None = None
        first: list[Record] = []
        for row in _ROWS[shape](source.name, source.text):
            if isinstance(row, Record):
                first.append(row)
                if len(first) == _SAMPLE:
                    break
            problem = problem or (row if isinstance(row, Rejected) else None)
        if not first:
            if problem:
                raise BadInputError(f"{problem.row.place}: {problem.reason}; no row of the file can be read")
            found = "a header and no rows" if shape == "table" else "an empty JSON list"
            raise BadInputError(f"{source.name}: holds {found}; expected rows of feedback")
        columns = tuple(dict.fromkeys(itertools.chain.from_iterable(record.values for record in first)))
        return cls(source.name, source.text, shape, columns, tuple(first), store)

    def rows(self) -> Iterator[Record | Rejected]:
        """Every row of the file, in order."""
        return _ROWS[self.shape](self.name, self.text)

    def looks(self) -> str:
        """What the file looks like, for messages."""
        names = ", ".join(name if len(name) <= 40 else f"{name[:40]}..." for name in self.columns[:12])
        return f"{_LOOKS[self.shape]} {names}"

    def column(self, options: Options, field: str) -> str | None:
        """Name of the optional column ``field``; None when absent.

        Raises:
            BadInputError: the column was named with ``--column`` and is not there.
        """
        name = str(getattr(options, field))
        if name in self.columns:
            return name
        if field in options.model_fields_set:
            raise self.no_column(field, name)
        return None

    def required_column(self, options: Options, field: str) -> str:
        """Name of the column ``field``, which must be there."""
        name = self.column(options, field)
        if name is None:
            raise self.no_column(field, str(getattr(options, field)))
        return name

    def no_column(self, field: str, name: str) -> BadInputError:
        """The error for a column that is not there."""
        return BadInputError(f"{self.name}: no column {name!r}; found {self.looks()}. Name it: --column {field}=COLUMN")


def _json_rows(name: str, text: str) -> Iterator[Record | Rejected]:
    # Not splitlines(): JSON strings may hold U+2028 and the like as they are.
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            yield Rejected(Row(place, None), f"is not JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError) as error:
            yield Rejected(Row(place, None), f"is not usable JSON: {error}")
        else:
            yield _json_record(place, values, line)


def _json_list(name: str, text: str) -> Iterator[Record | Rejected]:
    """Entries one by one; behind one that is no JSON nothing can be told apart, so the file is refused whole."""
    decoder = json.JSONDecoder()
    end = _behind_space(text, text.index("[") + 1)
    number, closed = 0, text.startswith("]", end)
    while not closed:
        number += 1
        start = end
        try:
            values, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            line = text.count("\n", 0, error.pos) + 1
            raise BadInputError(f"{name}:{line}: entry {number} of the list is not JSON: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"{name}: entry {number} of the list is not usable JSON: {error}") from error
        yield _json_record(f"{name}:{number}", values, text[start:end])
        end = _behind_space(text, end)
        closed = text.startswith("]", end)
        if not closed and not text.startswith(",", end):
            found = repr(text[end : end + 10]) if end < len(text) else "the end of the file"
            raise BadInputError(f"{name}: behind entry {number} of the list: found {found}; expected ',' or ']'")
        end = end if closed else _behind_space(text, end + 1)
    if _behind_space(text, end + 1) < len(text):
        raise BadInputError(f"{name}: there is text behind the list; expected one list, or one JSON object per line")


def _behind_space(text: str, place: int) -> int:
    space = _SPACE.match(text, place)
    return space.end() if space else place


def _json_record(place: str, values: Any, text: str) -> Record | Rejected:
    if not isinstance(values, dict):
        return Rejected(Row(place, None), f"found a JSON {type(values).__name__}; expected an object")
    if "\\ud" in text.lower() and not _is_text(values):
        return Rejected(Row(place, None), "holds half of a surrogate pair (\\ud800 to \\udfff), which is no text")
    return Record(place, values)


def _is_text(values: dict[str, Any]) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv_rows(name: str, text: str) -> Iterator[Record | Rejected]:
    csv.field_size_limit(MAX_CELL)
    first_line = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",\t;", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
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
            yield Rejected(Row(f"{name}:{line}", None), f"is not CSV: {error}")
            continue
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            twice = sorted({cell for cell in header if header.count(cell) > 1})
            if twice:
                raise BadInputError(f"{name}:{line}: column {twice[0]!r} stands twice in the header; rename one")
        elif len(cells) != len(header):
            reason = f"has {len(cells)} cells; the header has {len(header)}"
            yield Rejected(Row(f"{name}:{line}", None), reason)
        else:
            yield Record(f"{name}:{line}", dict(zip(header, cells, strict=True)))


_ROWS: dict[Shape, Callable[[str, str], Iterator[Record | Rejected]]] = {
    "table": _csv_rows,
    "json-lines": _json_rows,
    "json-list": _json_list,
}


def raw_row(record: Record, *, keep: Collection[str | None], labelers: Mapping[str, str] | None = None) -> Row:
    """The row for quarantine: ``keep`` as it came, labeler ids marked, any other field withheld.

    ``labelers`` maps a column to what holds the id: ``"cell"``, or else the id itself, which the column's name shows.
    """
    raw: dict[str, Any] = {}
    for name, value in record.values.items():
        role = (labelers or {}).get(name)
        if role == "cell":
            raw[name] = None if value is None else LabelerId(value)
        elif role is not None:
            raw[LabelerId(role)] = value
        else:
            raw[name] = value if name in keep else WITHHELD
    return Row(record.place, raw)


def text_of(record: Record, column: str) -> str:
    """The text in ``column``."""
    value = record.values.get(column)
    if not isinstance(value, str):
        raise RowError(f"{column}: found {shown(value)}; expected a text")
    return value


def optional_text(record: Record, column: str | None) -> str | None:
    """The text or number in ``column`` as text; None where it is empty."""
    value = None if column is None else record.values.get(column)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        # The column may name a labeler, so the reason must not quote it.
        raise RowError(f"{column}: found a value of JSON type {_json_type(value)}; expected a text or a number")
    return str(value)


def _json_type(value: Any) -> str:
    return "boolean" if isinstance(value, bool) else "array" if isinstance(value, list) else "object"


def number(value: Any, shown_as: str, scale: tuple[float, float] | None) -> float:
    """A finite number inside the scale; ``shown_as`` names it in the reason."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        result = float(value)
    except (ValueError, OverflowError):
        raise RowError(f"{shown_as}: found {shown(value)}; expected a number") from None
    if not math.isfinite(result):
        raise RowError(f"{shown_as}: found {result}; expected a finite number")
    if scale and not scale[0] <= result <= scale[1]:
        raise RowError(f"{shown_as}: found {result:g}; expected {scale[0]:g} to {scale[1]:g}")
    return result


def shown(value: Any) -> str:
    """A value in a reason, cut where it is long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."
