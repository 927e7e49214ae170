"""Argilla's records as its SDK (version 2) writes them: fields, and responses by question.

In: records like ``{"fields": {..}, "responses": {"ranking": [{"value": [..], "user_id": ".."}]}}``. Out: one feedback
group per record and labeler. This shape has lost two things: ties of rankings, and whether a response was submitted.
"""

from collections.abc import Iterator
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.argilla_answers import outcomes, recognized
from rewardloop.feedback.importers.argilla_labels import Answer, ArgillaOptions, ArgillaRecord
from rewardloop.feedback.importers.base import Outcome, Rejected, Row, importer
from rewardloop.feedback.importers.named_answers import kind_of
from rewardloop.feedback.importers.table import Record, Table, raw_row


def _questions(table: Table) -> list[str] | None:
    """Questions with answers, in order; None where one of the first records has not the keys of this shape."""
    if not all({"fields", "responses"} <= set(record.values) for record in table.first):
        return None
    found: dict[str, None] = {}
    for record in table.rows():
        responses = record.values.get("responses") if isinstance(record, Record) else None
        if isinstance(responses, dict):
            found |= {name: None for name, answers in responses.items() if _are_answers(answers)}
    return list(found)


def _are_answers(value: Any) -> bool:
    given = value if isinstance(value, list) else [value]
    return bool(given) and all(isinstance(one, dict) and "value" in one for one in given)


def _recognizes(table: Table, options: ArgillaOptions) -> str | None:
    questions = _questions(table)
    return recognized(questions, "version 2 of its SDK") if questions else None


@importer("argilla", "Argilla's records as its SDK writes them", ArgillaOptions, recognizes=_recognizes, votes=True)
def argilla(table: Table, options: ArgillaOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each labeler's answers to a record are a row. Suggestions are not looked at."""
    records = (record if isinstance(record, Rejected) else _record(record) for record in table.rows())
    return outcomes(table.name, _questions(table) or [], records, options)


def _record(record: Record) -> ArgillaRecord | Rejected:
    parts = {name: record.values.get(name) for name in ("fields", "responses", "metadata")}
    for name, part in parts.items():
        if not isinstance(part, dict) and not (part is None and name == "metadata"):
            return Rejected(_withheld(record), f"{name}: found {kind_of(part)}; expected an object")
    answers = []
    for question, given in (parts["responses"] or {}).items():
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, dict) or "value" not in one:
                return Rejected(_withheld(record), f"responses.{question[:40]}: expected objects with a value")
            answers.append(Answer(question, one.get("user_id"), one["value"], one.get("status")))
    return ArgillaRecord(record.place, parts["fields"] or {}, parts["metadata"] or {}, answers)


def _withheld(record: Record) -> Row:
    return raw_row(record, keep=["id"])
