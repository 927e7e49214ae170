"""Tables of comparisons: a prompt, two answers and a verdict per row, as house-made tools and crowd platforms write.

In: ``prompt,response_a,response_b,verdict,labeler``, by whatever names. Out: one group of two responses per row. What
a verdict is called is said with options, never guessed; free text can be read by its beginning.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import model_validator

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    Outcome,
    Rejected,
    Repeated,
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
    twice,
)
from rewardloop.feedback.importers.messages import json_cell, messages_of
from rewardloop.feedback.importers.quoting import quoted
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row, text_of
from rewardloop.records import Message

_NEEDED = ("response_a", "response_b", "verdict")
_OTHERS = ("prompt", "labeler", "id", "segment", "model_a", "model_b", "status")


class PairwiseOptions(ComparedOptions):
    """``a``, ``b``, ``tie``, ``both_bad``: values of ``verdict``; ``keep``: values of ``status`` whose rows count.

    An answer is also called by its column, where no option says what it is called.
    """

    prompt: Column = "prompt"
    response_a: Column = "response_a"
    response_b: Column = "response_b"
    verdict: Column = "verdict"
    labeler: Column = "labeler"
    id: Column = "id"
    segment: Column = "segment"
    model_a: Column = "model_a"
    model_b: Column = "model_b"
    status: Column = "status"
    a: Values = ("a", "response_a")
    b: Values = ("b", "response_b")
    tie: Values = ("tie",)
    both_bad: Values = ()
    match: Literal["exact", "start"] = "exact"
    keep: Values = ()

    @model_validator(mode="after")
    def _apart(self) -> "PairwiseOptions":
        both = twice(self.names().values())
        if both is not None:
            raise ValueError(f"{both!r} stands for two verdicts; say with a=..., b=... what each is called")
        return self

    def names(self) -> dict[Verdict, tuple[str, ...]]:
        """Verdict -> what it is called."""
        return {
            "a": self.a if "a" in self.model_fields_set else _with(self.a, self.response_a),
            "b": self.b if "b" in self.model_fields_set else _with(self.b, self.response_b),
            "tie": self.tie,
            "bothbad": self.both_bad,
        }


def _with(names: tuple[str, ...], column: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, column.strip().casefold())))


def _recognizes(table: Table, options: PairwiseOptions) -> str | None:
    if not {getattr(options, name) for name in _NEEDED} <= set(table.columns):
        return None
    # One known verdict is enough: a row with another one is a row's mistake, and gets a reason that names it.
    known = any(_is_known(record, options) for record in table.first)
    return f"it has two responses and verdicts in {options.verdict!r}" if known else None


def _is_known(record: Record, options: PairwiseOptions) -> bool:
    try:
        _verdict(record, options.verdict, options)
    except RowError:
        return False
    return True


@importer("pairwise", "two responses and a verdict per row", PairwiseOptions, recognizes=_recognizes, votes=True)
def pairwise(table: Table, options: PairwiseOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is one labeler's verdict. Said twice it is a repetition; a second, other one is refused."""
    columns: dict[str, str | None] = {name: table.required_column(options, name) for name in _NEEDED}
    columns |= {name: table.column(options, name) for name in _OTHERS}
    if options.keep and columns["status"] is None:
        raise table.no_column(options, "status")
    labeler = columns["labeler"]
    said: dict[tuple[str, str], tuple[Verdict, str]] = {}
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        keep = [column for name, column in columns.items() if name != "labeler"]
        row = raw_row(record, keep=keep, labelers={labeler: "cell"} if labeler else {})
        try:
            status = optional_text(record, columns["status"]) or ""
            if options.keep and status.strip().casefold() not in options.keep:
                yield Skipped(row, f"with {columns['status']} {quoted(status)}")
                continue
            verdict = _read(record, columns, options)
            group = compared_group(verdict, options)
        except RowError as error:
            yield Rejected(row, str(error))
            continue
        before = verdict.verdict, record.place
        if verdict.labeler is not None:
            before = said.setdefault((group.group_id, verdict.labeler), before)
        if before[1] == record.place:
            yield Taken(group, (row,))
        elif before[0] == verdict.verdict:
            yield Repeated(row)
        else:
            yield Rejected(row, f"its labeler says otherwise of these responses at {before[1]}")


def _read(record: Record, columns: dict[str, str | None], options: PairwiseOptions) -> Compared:
    return Compared(
        prompt=_prompt(record, columns["prompt"]),
        a=text_of(record, str(columns["response_a"])),
        b=text_of(record, str(columns["response_b"])),
        verdict=_verdict(record, str(columns["verdict"]), options),
        labeler=optional_text(record, columns["labeler"]),
        id=optional_text(record, columns["id"]),
        segment=optional_text(record, columns["segment"]),
        models=(optional_text(record, columns["model_a"]), optional_text(record, columns["model_b"])),
    )


def _prompt(record: Record, column: str | None) -> tuple[Message, ...]:
    value = None if column is None else record.values.get(column)
    if isinstance(value, list):
        return messages_of(json_cell(record, str(column)), str(column))
    text = optional_text(record, column)
    return (Message(role="user", content=text),) if text else ()


def _verdict(record: Record, column: str, options: PairwiseOptions) -> Verdict:
    found = optional_text(record, column)
    if found is None:
        raise RowError(f"{column}: is empty; expected a verdict")
    return named_verdict(found, options.names(), column, match=options.match)
