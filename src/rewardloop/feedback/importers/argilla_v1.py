"""Argilla's records of version 1: one column per question, a list of answers with their status.

In: rows with ``"ranking": [{"user_id": "..", "value": {"rank": [1, 1], "value": [..]}, "status": "submitted"}]`` beside
the fields. Out: one feedback group per record and labeler. Equal ranks are ties and stay ties.
"""

import json
from collections.abc import Iterator
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.argilla_answers import outcomes, recognized
from rewardloop.feedback.importers.argilla_labels import Answer, ArgillaOptions, ArgillaRecord
from rewardloop.feedback.importers.base import Outcome, Rejected, Row, importer
from rewardloop.feedback.importers.table import Record, Table, raw_row

_KEYS = {"user_id", "value", "status"}
_NO_FIELDS = ("external_id", "metadata", "vectors")
_SUGGESTION = ("-suggestion", "-suggestion-metadata")


def _questions(table: Table) -> list[str]:
    """Columns in which some record has answers: the first records may wait for theirs."""
    found: dict[str, None] = {}
    for record in table.rows():
        if isinstance(record, Record):
            found |= {name: None for name, cell in record.values.items() if _are_answers(cell)}
    return list(found)


def _are_answers(cell: Any) -> bool:
    return isinstance(cell, list) and bool(cell) and all(isinstance(one, dict) and set(one) >= _KEYS for one in cell)


def _recognizes(table: Table, options: ArgillaOptions) -> str | None:
    questions = _questions(table)
    return recognized(questions, "version 1") if questions else None


@importer("argilla-v1", "Argilla's records of version 1", ArgillaOptions, recognizes=_recognizes, votes=True)
def argilla_v1(table: Table, options: ArgillaOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each labeler's answers to a record are a row. Suggestions are not looked at."""
    questions = _questions(table)
    records = (record if isinstance(record, Rejected) else _record(record, questions) for record in table.rows())
    return outcomes(table.name, questions, records, options)


def _record(record: Record, questions: list[str]) -> ArgillaRecord | Rejected:
    answers = []
    for name in questions:
        cell = record.values.get(name)
        for one in cell if isinstance(cell, list) else [] if cell is None else [cell]:
            if not isinstance(one, dict) or "value" not in one:
                reason = f"{name[:40]}: expected objects with user_id, value and status"
                return Rejected(_withheld(record), reason)
            answers.append(Answer(name, one.get("user_id"), one["value"], one.get("status")))
    fields = {
        name: value
        for name, value in record.values.items()
        if name not in questions and name not in _NO_FIELDS and not name.endswith(_SUGGESTION)
    }
    return ArgillaRecord(record.place, fields, _metadata(record.values.get("metadata")), answers)


def _metadata(value: Any) -> dict[str, Any]:
    """Metadata are a text of JSON here; only the segment is taken from them, so another text is no mistake."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _withheld(record: Record) -> Row:
    return raw_row(record, keep=["external_id"])
