"""Options of importers: what a file leaves open, and what its columns are called."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from rewardloop.records import LabelerKind, Sampling


class Options(BaseModel):
    """Base of every importer's options; values arrive as text from the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelOptions(Options):
    """What a file without these fields leaves open about its labels.

    ``default_segment`` is for groups without a segment, or of several.
    """

    criterion: str = "overall"
    labeler_kind: LabelerKind = "human"
    sampling: Sampling = "random"
    source: str | None = None
    default_segment: str | None = None


class ColumnMark:
    """Marks an option that names a column: ``--column``, not ``--option``."""


COLUMN = ColumnMark()
Column = Annotated[str, COLUMN]


def _scale(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    low, dots, high = value.partition("..")
    try:
        scale = (float(low), float(high))
    except ValueError:
        scale = (0.0, 0.0)
    if not dots or not scale[0] < scale[1]:
        raise ValueError("expected LOWEST..HIGHEST, for example 1..5")
    return scale


Scale = Annotated[tuple[float, float] | None, BeforeValidator(_scale)]
