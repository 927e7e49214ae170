"""What becomes of a row of a file: it is part of a group, or it is not, and then there is a reason."""

from dataclasses import dataclass
from typing import Any

from rewardloop.records import FeedbackGroup

WITHHELD = "(withheld)"
"""Stands in a quarantined row for a field that the importer does not know: it might name a labeler."""


class LabelerId(str):
    """A labeler's id inside a raw row; replaced by its pseudonym before the row is written anywhere."""

    __slots__ = ()


@dataclass(frozen=True)
class Row:
    """A row as it came. ``raw`` is None where it cannot be parsed, so that labeler ids in it cannot be found."""

    place: str
    raw: dict[str, Any] | None


@dataclass(frozen=True)
class Taken:
    """A feedback group and the rows it was made of (at least one).

    ``left_out``: for each thing inside those rows that is in no label although it was there, why.
    """

    group: FeedbackGroup
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be read, and why. The reason must not quote labeler ids."""

    row: Row
    reason: str


@dataclass(frozen=True)
class Repeated:
    """A row that says again what an earlier row of the file said."""

    row: Row


@dataclass(frozen=True)
class Skipped:
    """A row in which, by its own words, nobody judged anything: it is counted under ``reason`` and is no mistake."""

    row: Row
    reason: str


Outcome = Taken | Rejected | Repeated | Skipped


class RowError(ValueError):
    """Why a row cannot be read; importers turn it into ``Rejected``."""
