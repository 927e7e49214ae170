"""Chosen and rejected answers: HH transcripts, TRL's preference shapes, plain texts.

In: rows with two answers, of which one was preferred. Out: one group of two responses per row. Shapes of a row, told
apart by what it holds:
- strings that are HH transcripts (``Human:`` and ``Assistant:`` turns): the prompt is their common part up to the last
  ``Assistant:``, read into messages;
- lists of messages: the prompt is an explicit list, or what both lists begin with;
- other strings: the prompt is the ``prompt`` field, or none. With ``strings=common-prefix`` and no ``prompt`` field it
  is what both strings begin with (TRL's implicit prompt, which plain texts cannot be told from).
"""

from collections.abc import Iterator
from typing import Literal

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    importer,
)
from rewardloop.feedback.importers.messages import conversation_cell
from rewardloop.feedback.importers.preferred import Preference, preferences, split_pair
from rewardloop.feedback.importers.table import Record, Table, number, optional_text

_OTHERS = ("prompt", "id", "segment", "labeler", "margin", "chosen_model", "rejected_model")


class PairsOptions(LabelOptions):
    """``strings``: what two strings without a prompt and without turns are; ``margins``: what a margin becomes."""

    chosen: Column = "chosen"
    rejected: Column = "rejected"
    prompt: Column = "prompt"
    id: Column = "id"
    segment: Column = "segment"
    labeler: Column = "labeler"
    margin: Column = "margin"
    chosen_model: Column = "chosen_model"
    rejected_model: Column = "rejected_model"
    strings: Literal["whole", "common-prefix"] = "whole"
    margins: Literal["rating", "ignore"] = "rating"


def _recognizes(table: Table, options: PairsOptions) -> str | None:
    if options.chosen not in table.columns or options.rejected not in table.columns:
        return None
    if {"score_chosen", "score_rejected"} <= set(table.columns):
        return None  # ultrafeedback-binarized, which uses the scores
    return f"it has the fields {options.chosen!r} and {options.rejected!r}"


@importer("pairs", "a chosen and a rejected answer", PairsOptions, recognizes=_recognizes)
def pairs(table: Table, options: PairsOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is a group of two responses with one choice."""
    columns: dict[str, str | None] = {name: table.required_column(options, name) for name in ("chosen", "rejected")}
    columns |= {name: table.column(options, name) for name in _OTHERS}
    yield from preferences(table, options, columns, _preference)


def _preference(record: Record, columns: dict[str, str | None], options: PairsOptions) -> Preference:
    given, one, other = (conversation_cell(record, columns[name]) for name in ("prompt", "chosen", "rejected"))
    prompt, chosen, rejected = split_pair(given, one, other, options.strings)
    margin = record.values.get(columns["margin"]) if columns["margin"] and options.margins == "rating" else None
    return Preference(
        prompt,
        chosen,
        rejected,
        labeler=optional_text(record, columns["labeler"]),
        id=optional_text(record, columns["id"]),
        segment=optional_text(record, columns["segment"]),
        margin=None if margin is None or margin == "" else number(margin, str(columns["margin"]), None),
        models=(optional_text(record, columns["chosen_model"]), optional_text(record, columns["rejected_model"])),
    )
