"""Votes of an arena: two models answer, and their user says which one is better, or neither.

In: rows of one of two shapes: ``conversation_a``, ``conversation_b`` (lists of messages) and ``winner``; or ``prompt``,
``response_a``, ``response_b`` (lists of turns, in tables as JSON) and ``winner_model_a``, ``winner_model_b``,
``winner_tie`` of which one is 1. Out: one group of two responses per row.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, zip_longest
from typing import Any, Literal

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    Outcome,
    Rejected,
    RowError,
    Skipped,
    Taken,
    importer,
)
from rewardloop.feedback.importers.compared import (
    Compared,
    ComparedOptions,
    Values,
    Verdict,
    compared_group,
    named_verdict,
)
from rewardloop.feedback.importers.messages import json_cell, messages_of, parted
from rewardloop.feedback.importers.table import Record, Table, number, optional_text, raw_row, shown
from rewardloop.feedback.importers.transcripts import transcript
from rewardloop.records import Message

SEVERAL_TURNS = "compared over several turns (--option turns=transcript takes them)"

_SIDES = ("conversation_a", "conversation_b")
_TURNS = ("prompt", "response_a", "response_b")
_VOTES: dict[str, Verdict] = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}
_OTHERS = ("id", "labeler", "segment", "model_a", "model_b", "time")


class ArenaOptions(ComparedOptions):
    """``both_bad``: what the verdict is called; ``turns``: what becomes of conversations that part before their last
    answer: they are left out, or everything behind the common prompt is taken as one text."""

    winner: Column = "winner"
    id: Column = "question_id"
    labeler: Column = "judge"
    segment: Column = "segment"
    model_a: Column = "model_a"
    model_b: Column = "model_b"
    time: Column = "tstamp"
    both_bad: Values = ("tie (bothbad)",)
    turns: Literal["last", "transcript"] = "last"


def _recognizes(table: Table, options: ArenaOptions) -> str | None:
    columns = set(table.columns)
    if columns >= {*_SIDES, options.winner}:
        return f"it has the fields {_SIDES[0]!r}, {_SIDES[1]!r} and {options.winner!r}"
    return f"it has votes in {', '.join(map(repr, _VOTES))}" if columns >= {*_TURNS, *_VOTES} else None


@importer("arena", "votes on the answers of two models", ArenaOptions, recognizes=_recognizes, votes=True)
def arena(table: Table, options: ArenaOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is one vote."""
    lists = set(_SIDES) <= set(table.columns)
    columns = {name: table.column(options, name) for name in _OTHERS}
    if columns["id"] is None and "id" not in options.model_fields_set and "id" in table.columns:
        columns["id"] = "id"
    labeler = columns["labeler"]
    if lists:
        votes = [table.required_column(options, "winner")]
    else:
        votes = list(_VOTES)
        for name in (*_TURNS, *votes):
            if name not in table.columns:
                raise table.no_column(options, "winner")
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        keep = [*(_SIDES if lists else _TURNS), *votes, *(name for key, name in columns.items() if key != "labeler")]
        row = raw_row(record, keep=keep, labelers={labeler: "cell"} if labeler else {})
        try:
            prompt, a, b = _answers(record, lists, options)
            if a is None or b is None:
                yield Skipped(row, SEVERAL_TURNS)
                continue
            verdict = _named(record, options) if lists else _counted(record)
            yield Taken(compared_group(_compared(record, prompt, a, b, verdict, columns), options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _compared(
    record: Record, prompt: tuple[Message, ...], a: str, b: str, verdict: Verdict, columns: dict[str, str | None]
) -> Compared:
    return Compared(
        prompt,
        a,
        b,
        verdict,
        labeler=optional_text(record, columns["labeler"]),
        id=optional_text(record, columns["id"]),
        segment=optional_text(record, columns["segment"]),
        labeled_at=_time(record, columns["time"]),
        models=(optional_text(record, columns["model_a"]), optional_text(record, columns["model_b"])),
    )


def _answers(record: Record, lists: bool, options: ArenaOptions) -> tuple[tuple[Message, ...], str | None, str | None]:
    if lists:
        one, other = (messages_of(json_cell(record, name), name) for name in _SIDES)
    else:
        one, other = (_conversation(record, name) for name in _TURNS[1:])
    prompt, a, b = parted(one, other)
    if not prompt:
        raise RowError("the two conversations do not begin with the same prompt")
    if not a or not b or a[-1].role != "assistant" or b[-1].role != "assistant":
        raise RowError("a conversation does not end with an answer of its model")
    if len(a) == len(b) == 1:
        return prompt, a[0].content, b[0].content
    return (prompt, transcript(a), transcript(b)) if options.turns == "transcript" else (prompt, None, None)


def _conversation(record: Record, column: str) -> tuple[Message, ...]:
    prompts, answers = _turns(record, _TURNS[0]), _turns(record, column)
    if len(prompts) != len(answers):
        raise RowError(f"{column}: has {len(answers)} turns; {_TURNS[0]} has {len(prompts)}")
    users = (Message(role="user", content=text) for text in prompts)
    models = (Message(role="assistant", content=text) for text in answers)
    return tuple(message for message in chain(*zip_longest(users, models)) if message)


def _turns(record: Record, column: str) -> list[str]:
    value = json_cell(record, column)
    turns = value if isinstance(value, list | tuple) else [value]
    for place, text in enumerate(turns):
        if not isinstance(text, str):
            raise RowError(f"{column}.{place}: found {shown(text)}; expected a text")
    return list(turns)


def _named(record: Record, options: ArenaOptions) -> Verdict:
    found = optional_text(record, options.winner)
    if found is None:
        raise RowError(f"{options.winner}: is empty; expected a verdict")
    names: dict[Verdict, tuple[str, ...]] = {
        "a": ("model_a",),
        "b": ("model_b",),
        "tie": ("tie",),
        "bothbad": options.both_bad,
    }
    return named_verdict(found, names, options.winner)


def _counted(record: Record) -> Verdict:
    votes = {name: number(record.values.get(name), name, (0, 1)) for name in _VOTES}
    won = [_VOTES[name] for name, vote in votes.items() if vote == 1]
    if len(won) != 1 or sum(votes.values()) != 1:
        found = ", ".join(f"{name} {vote:g}" for name, vote in votes.items())
        raise RowError(f"found {found}; expected one of them to be 1 and the others 0")
    return won[0]


def _time(record: Record, column: str | None) -> datetime | None:
    value: Any = None if column is None else record.values.get(column)
    if value is None or value == "":
        return None
    seconds = number(value, str(column), None)
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, OSError, ValueError):
        raise RowError(f"{column}: found {seconds:g}; expected seconds since 1970") from None
