"""Preference data of Google Cloud's RLHF pipeline: a text, two candidates and the number of the better one.

In: rows with ``input_text``, ``candidate_0``, ``candidate_1`` and ``choice`` (0 or 1). Out: one group of two responses
per row.
"""

from collections.abc import Iterator

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import Column, Outcome, Rejected, RowError, Taken, importer
from rewardloop.feedback.importers.compared import Compared, ComparedOptions, Verdict, compared_group
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row, shown, text_of
from rewardloop.records import Message

_FIELDS = ("input_text", "candidate_0", "candidate_1", "choice")
_CHOICES: dict[str, Verdict] = {"0": "a", "1": "b"}


class GooglePreferenceOptions(ComparedOptions):
    """The fields are Google's own; the format has no ties and no labelers."""

    input_text: Column = "input_text"
    candidate_0: Column = "candidate_0"
    candidate_1: Column = "candidate_1"
    choice: Column = "choice"


def _recognizes(table: Table, options: GooglePreferenceOptions) -> str | None:
    needed = {getattr(options, name) for name in _FIELDS}
    return f"it has two candidates and {options.choice!r}" if needed <= set(table.columns) else None


@importer(
    "google-preference",
    "two candidates and the number of the better one",
    GooglePreferenceOptions,
    recognizes=_recognizes,
)
def google_preference(table: Table, options: GooglePreferenceOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is a group of two responses with one choice."""
    names = [table.required_column(options, name) for name in _FIELDS]
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = raw_row(record, keep=names)
        try:
            yield Taken(compared_group(_compared(record, *names), options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _compared(record: Record, text: str, first: str, second: str, choice: str) -> Compared:
    found = record.values.get(choice)
    number = "" if isinstance(found, bool) else (optional_text(record, choice) or "").strip().removesuffix(".0")
    if number not in _CHOICES:
        raise RowError(f"{choice}: found {shown(found)}; expected 0 or 1, the number of the better candidate")
    prompt = (Message(role="user", content=text_of(record, text)),)
    return Compared(prompt, text_of(record, first), text_of(record, second), _CHOICES[number])
