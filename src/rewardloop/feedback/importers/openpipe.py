"""OpenPipe's preference data: a conversation, and the message that its last one was preferred to.

In: rows with ``messages`` and ``rejected_message``. Out: one group of two responses per row.
"""

from collections.abc import Iterator

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Rejected,
    RowError,
    Skipped,
    Taken,
    importer,
)
from rewardloop.feedback.importers.messages import answer, conversation_cell, messages_of
from rewardloop.feedback.importers.preferred import Preference, preference_group
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row

NOTHING_REJECTED = "without a rejected message"


class OpenPipeOptions(LabelOptions):
    """OpenPipe's ``split`` is not used: rewardloop makes its own, in which no prompt is in two."""

    messages: Column = "messages"
    rejected_message: Column = "rejected_message"
    segment: Column = "segment"


def _recognizes(table: Table, options: OpenPipeOptions) -> str | None:
    needed = (options.messages, options.rejected_message)
    return "it has the fields {!r} and {!r}".format(*needed) if set(needed) <= set(table.columns) else None


@importer("openpipe", "messages and the message that was rejected", OpenPipeOptions, recognizes=_recognizes)
def openpipe(table: Table, options: OpenPipeOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is a group of two responses with one choice."""
    messages, rejected = (table.required_column(options, name) for name in ("messages", "rejected_message"))
    segment = table.column(options, "segment")
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = raw_row(record, keep=[messages, rejected, segment])
        if record.values.get(rejected) is None:  # OpenPipe keeps plain examples in the same file
            yield Skipped(row, NOTHING_REJECTED)
            continue
        try:
            yield Taken(preference_group(_preference(record, messages, rejected, segment), options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _preference(record: Record, messages: str, rejected: str, segment: str | None) -> Preference:
    turns = messages_of(conversation_cell(record, messages), messages)
    other = messages_of([record.values.get(rejected)], rejected)
    return Preference(
        turns[:-1],
        answer(turns[-1:], messages),
        answer(other, rejected),
        segment=optional_text(record, segment),
    )
