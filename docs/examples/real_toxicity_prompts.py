"""Importer of RealToxicityPrompts: continuations of texts with the scores that the Perspective classifier gave them
(Gehman et al. 2020, Apache 2.0).

    rewardloop ingest val.jsonl --importer docs/examples/real_toxicity_prompts.py

In: JSON lines with ``prompt.text``, ``continuation.text`` and scores from 0 to 1 beside them, some of them null. Out:
one group of one response per line. Higher is better in a ``rating``, so it holds 1 - the score; its criterion says so.
"""

from collections.abc import Iterator
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    LabelOptions,
    Outcome,
    Rejected,
    RowError,
    Skipped,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.table import Record, Table, number, raw_row, shown
from rewardloop.records import FeedbackGroup, LabelerKind, Message, Rating, Response

SCALE = (0.0, 1.0)


class RealToxicityOptions(LabelOptions):
    """``score``: which of the classifier's scores; ``no <score>`` is what is rated, unless ``criterion`` is given."""

    score: str = "toxicity"
    criterion: str = ""
    labeler: str = "perspective"
    labeler_kind: LabelerKind = "model"


def _recognizes(table: Table, options: RealToxicityOptions) -> str | None:
    return "it has prompts and continuations" if {"prompt", "continuation"} <= set(table.columns) else None


@importer("real-toxicity-prompts", "continuations with scores", RealToxicityOptions, recognizes=_recognizes)
def real_toxicity_prompts(table: Table, options: RealToxicityOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each line is a row; one whose score is null is skipped."""
    for record in table.rows():
        if isinstance(record, Rejected):  # a line that is no JSON object
            yield record
            continue
        row = raw_row(record, keep=["prompt", "continuation"])
        try:
            prompt, continuation = _part(record, "prompt"), _part(record, "continuation")
            if continuation.get(options.score) is None:
                yield Skipped(row, "without a score")
            else:
                yield Taken(_group(prompt["text"], continuation, options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _part(record: Record, name: str) -> dict[str, Any]:
    part = record.values.get(name)
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        raise RowError(f"{name}: found {shown(part)}; expected an object with a text")
    return part


def _group(prompt: str, continuation: dict[str, Any], options: RealToxicityOptions) -> FeedbackGroup:
    score = number(continuation[options.score], options.score, SCALE)
    text = continuation["text"]
    label = Rating(
        labeler=options.labeler,
        labeler_kind=options.labeler_kind,
        criterion=options.criterion or f"no {options.score}",
        scores={"c": 1 - score},
        scale=SCALE,
    )
    return FeedbackGroup(
        group_id=content_id(prompt, text),
        prompt=(Message(role="user", content=prompt),),
        responses=(Response(response_id="c", content=text),),
        labels=(label,),
        segment=options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )
