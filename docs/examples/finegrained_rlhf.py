"""Importer of Fine-Grained RLHF's feedback on long answers: four of them to each question, compared pair by pair (Wu et
al. 2023, Apache 2.0).

    rewardloop ingest dev_feedback.json --importer docs/examples/finegrained_rlhf.py

In: a JSON list of questions with ``prediction 1`` to ``prediction 4`` and ``preference``: for the pairs (1,2) (1,3)
(1,4) (2,3) (2,4) (3,4) the number 1 where the first is better, 2 where the second is, 0 for a tie. Out: one group of
four responses per question, with a label for each pair: some questions' six verdicts are no order of the four.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Literal

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    LabelOptions,
    Outcome,
    Rejected,
    RowError,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.table import Record, Table, raw_row, shown, text_of
from rewardloop.records import Choice, FeedbackGroup, Label, Message, Ranking, Response

ANSWERS = [f"prediction {number}" for number in range(1, 5)]
PAIRS = list(combinations("1234", 2))


class FineGrainedOptions(LabelOptions):
    """``passages``: whether what the answers were written from stands before the question."""

    passages: Literal["with", "without"] = "without"


def _recognizes(table: Table, options: FineGrainedOptions) -> str | None:
    return "it has four predictions" if {"question", "preference", *ANSWERS} <= set(table.columns) else None


@importer("finegrained-rlhf", "four answers, compared in pairs", FineGrainedOptions, recognizes=_recognizes)
def finegrained_rlhf(table: Table, options: FineGrainedOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each question is a row. One person, not named, judged each."""
    for record in table.rows():
        if isinstance(record, Rejected):  # a row that is no JSON object
            yield record
            continue
        row = raw_row(record, keep=["question", "passages", "preference", *ANSWERS])
        try:
            yield Taken(_group(record, options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _group(record: Record, options: FineGrainedOptions) -> FeedbackGroup:
    question, texts = text_of(record, "question"), [text_of(record, name) for name in ANSWERS]
    if len(set(texts)) < len(texts):
        raise RowError("two predictions are the same text")
    if options.passages == "with":
        question = f"{_passages(record)}\n\n{question}"
    verdicts = record.values.get("preference")
    if not isinstance(verdicts, list) or len(verdicts) != len(PAIRS):
        raise RowError(f"preference: found {shown(verdicts)}; expected {len(PAIRS)} verdicts")
    return FeedbackGroup(
        group_id=content_id(question, *texts),
        prompt=(Message(role="user", content=question),),
        responses=tuple(Response(response_id=key, content=text) for key, text in zip("1234", texts, strict=True)),
        labels=tuple(_label(pair, verdict, options) for pair, verdict in zip(PAIRS, verdicts, strict=True)),
        segment=options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _label(pair: tuple[str, str], verdict: Any, options: FineGrainedOptions) -> Label:
    about: dict[str, Any] = {"criterion": options.criterion, "labeler_kind": options.labeler_kind}
    if verdict not in (0, 1, 2) or isinstance(verdict, bool):
        raise RowError(f"preference: found {shown(verdict)}; expected 0 (a tie), 1 or 2")
    if verdict == 0:
        return Ranking(ranks=dict.fromkeys(pair, 1), **about)
    return Choice(chosen=pair[verdict - 1], rejected=pair[2 - verdict], **about)


def _passages(record: Record) -> str:
    passages = record.values.get("passages")
    try:
        return "\n\n".join("\n".join(passage[1:]) for passage in passages or [])
    except TypeError:
        raise RowError(f"passages: found {shown(passages)}; expected lists of texts") from None
