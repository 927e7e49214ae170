"""A file as rows with named columns: JSON lines, a JSON list of objects, CSV/TSV with a header, Parquet or Arrow.

In: a ``Source``. Out: ``Record`` s with their place (``labels.csv:17``: the line where the row begins, or its number in
a JSON list or a file of columns), and rows that cannot be parsed as ``Rejected``. Also the few ways in which importers
look at a cell.
"""

import functools
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.options import COLUMN, Options
from rewardloop.feedback.importers.outcomes import WITHHELD, LabelerId, Rejected, Row, RowError
from rewardloop.feedback.importers.quoting import shown
from rewardloop.feedback.importers.rows import Record, Shape, json_line, rows_of, shape_of
from rewardloop.feedback.reading import Source
from rewardloop.storage import Storage

__all__ = ["Record", "Table", "is_missing", "json_line", "number", "optional_text", "raw_row", "shown", "text_of"]

_SAMPLE = 20
_LOOKS: dict[Shape, str] = {
    "table": "a table with the columns",
    "json-lines": "JSON lines with the keys",
    "json-list": "a JSON list with the keys",
    "columns": "a file of columns with",
}
_NAMES_PEOPLE = "*"
"""In the name of a column: it stands for labelers' names, so what it fits is not quoted."""
_EMPTY: dict[Shape, str] = {
    "table": "a header and no rows",
    "json-lines": "no rows",
    "json-list": "an empty JSON list",
    "columns": "columns and no rows",
}


@dataclass(frozen=True)
class Table:
    """A file seen as rows."""

    name: str
    source: Source
    shape: Shape
    first: tuple[Record, ...]
    """The first rows, for recognizing the format."""
    store: Storage | None = None
    """Where the rows go, for formats whose files name things that only the store knows."""
    first_only: bool = False
    """It has no other rows than ``first``."""

    @classmethod
    def of(cls, source: Source, store: Storage | None = None) -> "Table":
        """Look at the first rows of a source.

        Raises:
            BadInputError: no row can be read, or the header is unusable.
        """
        shape = shape_of(source)
        problem: Rejected | None = None
        first: list[Record] = []
        with closing(rows_of(source, shape)) as rows:
            for row in rows:
                if isinstance(row, Record):
                    first.append(row)
                    if len(first) == _SAMPLE:
                        break
                problem = problem or (row if isinstance(row, Rejected) else None)
        if not first:
            if problem:
                raise BadInputError(f"{problem.row.place}: {problem.reason}; no row of the file can be read")
            raise BadInputError(f"{source.name}: holds {_EMPTY[shape]}; expected rows of feedback")
        return cls(source.name, source, shape, tuple(first), store)

    def beginning(self) -> "Table":
        """The table as far as its first rows go: what they show costs no look at the whole file."""
        return replace(self, first_only=True)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The header, or the keys of all JSON objects: what was labeled first may lack what came up later."""
        # A column whose values are all null is in no record, and is a column all the same.
        found = dict.fromkeys(self.source.columns.names if self.source.columns else ())
        for row in self.rows() if self.shape in ("json-lines", "json-list") else self.first:
            if isinstance(row, Record):
                found |= dict.fromkeys(row.values)
        return tuple(found)

    @property
    def text(self) -> str:
        """All of the text at once, for formats that are no rows."""
        return self.source.text

    def rows(self) -> Iterator[Record | Rejected]:
        """Every row of the file, in order."""
        return iter(self.first) if self.first_only else rows_of(self.source, self.shape)

    def looks(self, named: Collection[str] = ()) -> str:
        """What the file looks like, for messages.

        Args:
            named: what columns are called by option; those that fit ``score_*`` name labelers and are shown as that.
        """
        patterns = {name: name.split(_NAMES_PEOPLE) for name in named if _NAMES_PEOPLE in name}
        known = dict.fromkeys(next((p for p, parts in patterns.items() if _fits(c, parts)), c) for c in self.columns)
        names = ", ".join(name if len(name) <= 40 else f"{name[:40]}..." for name in list(known)[:12])
        return f"{_LOOKS[self.shape]} {names}"

    def column(self, options: Options, field: str) -> str | None:
        """Name of the optional column ``field``; None when absent, or switched off (``--column field=``).

        Raises:
            BadInputError: the column was named with ``--column`` and is not there.
        """
        name = str(getattr(options, field))
        if not name:  # a table may have a column without a name: the index that pandas writes
            return None
        if name in self.columns:
            return name
        if field in options.model_fields_set:
            raise self.no_column(options, field)
        return None

    def required_column(self, options: Options, field: str) -> str:
        """Name of the column ``field``, which must be there."""
        name = self.column(options, field)
        if name is None:
            raise self.no_column(options, field)
        return name

    def no_column(self, options: Options, field: str, name: str | None = None) -> BadInputError:
        """The error for a column that is not there; ``name`` where ``field`` stands for several."""
        columns = [key for key, about in type(options).model_fields.items() if COLUMN in about.metadata]
        looks = self.looks([str(getattr(options, key)) for key in columns])
        name = str(getattr(options, field)) if name is None else name
        return BadInputError(f"{self.name}: no column {name!r}; found {looks}. Name it: --column {field}=COLUMN")


def _fits(column: str, parts: list[str]) -> bool:
    """Whether the column begins and ends as the pattern does."""
    return len(column) > sum(map(len, parts)) and column.startswith(parts[0]) and column.endswith(parts[-1])


def raw_row(record: Record, *, keep: Collection[str | None], labelers: Mapping[str, str] | None = None) -> Row:
    """The row for quarantine: ``keep`` as it came, labeler ids marked, any other field withheld.

    ``labelers`` maps a column to what holds the id: ``"cell"``, or else the id itself, which the column's name shows.
    """
    raw: dict[str, Any] = {}
    for name, value in record.values.items():
        role = (labelers or {}).get(name)
        if role == "cell":
            raw[name] = None if is_missing(value) else LabelerId(_as_text(value))
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
    if is_missing(value) or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        # The column may name a labeler, so the reason must not quote it.
        raise RowError(f"{column}: found a value of JSON type {_json_type(value)}; expected a text or a number")
    return _as_text(value)


def is_missing(value: Any) -> bool:
    """Whether nothing is there: null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_text(value: Any) -> str:
    """The same for 7 and 7.0: one missing number makes floats of all the others of its column."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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
