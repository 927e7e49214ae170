"""UltraFeedback's binarized form: two conversations and the score of each.

In: ``chosen`` and ``rejected`` (lists of messages or texts), ``score_chosen``, ``score_rejected``, perhaps ``prompt``.
Out: one group of two responses per row, with one ``rating``: the scores hold the choice and its margin.
"""

from collections.abc import Iterator
from typing import Literal

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Scale,
    importer,
)
from rewardloop.feedback.importers.messages import conversation_cell
from rewardloop.feedback.importers.preferred import Preference, preferences, split_pair
from rewardloop.feedback.importers.table import Record, Table, number, optional_text
from rewardloop.records import LabelerKind

_NEEDED = ("chosen", "rejected", "score_chosen", "score_rejected")
_OTHERS = ("prompt", "segment", "labeler")


class BinarizedOptions(LabelOptions):
    """``labeler_kind`` is ``model``, since GPT-4 gave the scores."""

    chosen: Column = "chosen"
    rejected: Column = "rejected"
    score_chosen: Column = "score_chosen"
    score_rejected: Column = "score_rejected"
    prompt: Column = "prompt"
    segment: Column = "segment"
    labeler: Column = "labeler"
    labeler_kind: LabelerKind = "model"
    scale: Scale = None
    strings: Literal["whole", "common-prefix"] = "whole"


def _recognizes(table: Table, options: BinarizedOptions) -> str | None:
    needed = [getattr(options, name) for name in _NEEDED]
    return f"it has the fields {', '.join(map(repr, needed))}" if set(needed) <= set(table.columns) else None


@importer(
    "ultrafeedback-binarized",
    "a chosen and a rejected answer with their scores",
    BinarizedOptions,
    recognizes=_recognizes,
)
def ultrafeedback_binarized(table: Table, options: BinarizedOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is a group of two responses with one rating; equal scores are a tie."""
    columns: dict[str, str | None] = {name: table.required_column(options, name) for name in _NEEDED}
    columns |= {name: table.column(options, name) for name in _OTHERS}
    yield from preferences(table, options, columns, _preference)


def _preference(record: Record, columns: dict[str, str | None], options: BinarizedOptions) -> Preference:
    cells = {name: conversation_cell(record, column) for name, column in columns.items()}
    prompt, chosen, rejected = split_pair(cells["prompt"], cells["chosen"], cells["rejected"], options.strings)
    scores = [number(cells[name], str(columns[name]), options.scale) for name in ("score_chosen", "score_rejected")]
    return Preference(
        prompt,
        chosen,
        rejected,
        labeler=optional_text(record, columns["labeler"]),
        segment=optional_text(record, columns["segment"]),
        scores=(scores[0], scores[1]),
        scale=options.scale,
    )
