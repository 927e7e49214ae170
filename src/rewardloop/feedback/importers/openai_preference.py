"""OpenAI's preference files (direct preference optimization), which Together and Fireworks take, too.

In: JSON lines with ``input.messages``, ``preferred_output`` and ``non_preferred_output``. Out: one group of two
responses per line. Messages of tools stay in the prompt; the list of tools that could be called is not kept.
"""

from collections.abc import Iterator
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import LabelOptions, Outcome, Rejected, RowError, Taken, importer
from rewardloop.feedback.importers.messages import messages_of
from rewardloop.feedback.importers.preferred import Preference, preference_group, split_conversations
from rewardloop.feedback.importers.table import Record, Table, raw_row, shown

_INPUT, _PREFERRED, _OTHER = "input", "preferred_output", "non_preferred_output"


class OpenAiPreferenceOptions(LabelOptions):
    """All else is in the lines."""


def _recognizes(table: Table, options: OpenAiPreferenceOptions) -> str | None:
    needed = {_INPUT, _PREFERRED, _OTHER}
    if all(needed <= set(record.values) for record in table.first):
        return f"its rows have {_INPUT!r}, {_PREFERRED!r} and {_OTHER!r}"
    return None


@importer(
    "openai-preference",
    "OpenAI's file of preferred and other outputs",
    OpenAiPreferenceOptions,
    recognizes=_recognizes,
)
def openai_preference(table: Table, options: OpenAiPreferenceOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each line is a group of two responses with one choice."""
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = raw_row(record, keep=[_INPUT, _PREFERRED, _OTHER])
        try:
            yield Taken(preference_group(_preference(record), options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _preference(record: Record) -> Preference:
    given: Any = record.values.get(_INPUT)
    if not isinstance(given, dict):
        raise RowError(f"{_INPUT}: found {shown(given)}; expected an object with messages")
    prompt = messages_of(given.get("messages"), f"{_INPUT}.messages")
    outputs = [messages_of(record.values.get(name), name) for name in (_PREFERRED, _OTHER)]
    return Preference(*split_conversations(prompt, outputs[0], outputs[1], (_PREFERRED, _OTHER)))
