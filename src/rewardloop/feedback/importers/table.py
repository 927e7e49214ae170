"""A file as rows with named columns: JSON lines, a JSON list of objects, CSV/TSV with a header, Parquet or Arrow.

In: a ``Source``. Out: ``Record`` s with their place (``labels.csv:17``: the line where the row begins, or its number in
a JSON list or a file of columns), and rows that cannot be parsed as ``Rejected``. Also the few ways in which importers
look at a cell.
"""

import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.options import Options
from rewardloop.feedback.importers.outcomes import WITHHELD, LabelerId, Rejected, Row, RowError
from rewardloop.feedback.importers.rows import Record, Shape, json_line, rows_of, shape_of
from rewardloop.feedback.reading import Source
from rewardloop.storage import Storage

__all__ = ["Record", "Table", "json_line", "number", "optional_text", "raw_row", "shown", "text_of"]

_SAMPLE = 20
_LOOKS: dict[Shape, str] = {
    "table": "a table with the columns",
    "json-lines": "JSON lines with the keys",
    "json-list": "a JSON list with the keys",
    "columns": "a file of columns with",
}
_EMPTY: dict[Shape, str] = {
    "table": "a header and no rows",
    "json-lines": "no rows",
    "json-list": "an empty JSON list",
    "columns": "columns and no rows",
}


@dataclass(frozen=True)
class Table:
    """A file seen as rows; ``columns`` is the header, or the keys of the first JSON objects."""

    name: str
    source: Source
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
        # A column whose first values are all null is in no record, and is a column all the same.
        declared = source.columns.names if source.columns else ()
        columns = tuple(dict.fromkeys(itertools.chain(declared, *(record.values for record in first))))
        return cls(source.name, source, shape, columns, tuple(first), store)

    @property
    def text(self) -> str:
        """All of the text at once, for formats that are no rows."""
        return self.source.text

    def rows(self) -> Iterator[Record | Rejected]:
        """Every row of the file, in order."""
        return rows_of(self.source, self.shape)

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
