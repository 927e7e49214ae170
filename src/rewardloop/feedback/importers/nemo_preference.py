"""NeMo's preference data: a context and completions with ranks, of which 0 is the best.

In: rows with ``context`` (messages) and ``completions`` (each a ``rank`` and a ``completion`` of messages). Out: one
group of K responses per row with one ``ranking``; equal ranks stay ties.
"""

from collections.abc import Iterator
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Rejected,
    RowError,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.messages import answer, json_cell, messages_of
from rewardloop.feedback.importers.ranks import rank_of
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row, shown
from rewardloop.records import FeedbackGroup, Ranking, Response


class NemoPreferenceOptions(LabelOptions):
    """``segment`` is NeMo's name of the task."""

    context: Column = "context"
    completions: Column = "completions"
    segment: Column = "task_name"


def _recognizes(table: Table, options: NemoPreferenceOptions) -> str | None:
    if not {options.context, options.completions} <= set(table.columns):
        return None
    for record in table.first:
        listed = record.values.get(options.completions)
        if not isinstance(listed, list) or not all(isinstance(one, dict) and "rank" in one for one in listed):
            return None
    return f"it has {options.context!r} and ranked {options.completions!r}"


@importer("nemo-preference", "a context and ranked completions", NemoPreferenceOptions, recognizes=_recognizes)
def nemo_preference(table: Table, options: NemoPreferenceOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is a group with one ranking."""
    context, completions = (table.required_column(options, name) for name in ("context", "completions"))
    segment = table.column(options, "segment")
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = raw_row(record, keep=[context, completions, segment])
        try:
            yield Taken(_group(record, context, completions, segment, options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _group(
    record: Record, context: str, completions: str, segment: str | None, options: NemoPreferenceOptions
) -> FeedbackGroup:
    given = json_cell(record, context)
    prompt = messages_of([{"role": "user", "content": given}] if isinstance(given, str) else given, context)
    listed = json_cell(record, completions)
    if not isinstance(listed, list | tuple) or len(listed) < 2:
        raise RowError(f"{completions}: found {shown(listed)}; expected a list of two completions or more")
    read = [_completion(one, f"{completions}.{place}") for place, one in enumerate(listed)]
    texts = [text for text, _ in read]
    if len(set(texts)) < len(texts):
        raise RowError(f"{completions}: two of them are the same text")
    ids = [f"r{place}" for place in range(len(texts))]
    label = Ranking(
        labeler_kind=options.labeler_kind,
        criterion=options.criterion,
        ranks={name: rank + 1 for name, (_, rank) in zip(ids, read, strict=True)},
    )
    return FeedbackGroup(
        group_id=content_id(*(f"{message.role}:{message.content}" for message in prompt), *texts),
        prompt=prompt,
        responses=tuple(Response(response_id=name, content=text) for name, text in zip(ids, texts, strict=True)),
        labels=(label,),
        segment=optional_text(record, segment) or options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _completion(value: Any, name: str) -> tuple[str, int]:
    """(text, rank)."""
    if not isinstance(value, dict):
        raise RowError(f"{name}: found {shown(value)}; expected a rank and a completion")
    rank = rank_of(value.get("rank"), f"{name}.rank", best=0)
    return answer(messages_of(value.get("completion"), f"{name}.completion"), f"{name}.completion"), rank
