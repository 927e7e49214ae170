"""Argilla's records flattened (version 2, ``to_datasets`` and ``to_list(flatten=True)``): three columns per question.

In: rows with ``ranking.responses``, ``ranking.responses.users`` and ``ranking.responses.status``, lists of one length,
beside the fields. Out: one feedback group per record and labeler. This shape has lost the ties of rankings.
"""

from collections.abc import Iterator
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.argilla_answers import outcomes, recognized
from rewardloop.feedback.importers.argilla_labels import Answer, ArgillaOptions, ArgillaRecord
from rewardloop.feedback.importers.base import Outcome, Rejected, Row, importer
from rewardloop.feedback.importers.named_answers import kind_of
from rewardloop.feedback.importers.table import Record, Table, raw_row

_ANSWERS, _USERS, _STATUS = ".responses", ".responses.users", ".responses.status"
_OTHERS = (_ANSWERS, _USERS, _STATUS, ".suggestion", ".suggestion.score", ".suggestion.agent")
_NO_FIELDS = ("id", "_server_id", "status", "inserted_at", "updated_at")


def _questions(table: Table) -> list[str]:
    names = [column.removesuffix(_ANSWERS) for column in table.columns if column.endswith(_ANSWERS)]
    return [name for name in names if name and name + _USERS in table.columns]


def _recognizes(table: Table, options: ArgillaOptions) -> str | None:
    questions = _questions(table)
    return recognized(questions, "its flattened export") if questions else None


@importer("argilla-flat", "Argilla's records, flattened", ArgillaOptions, recognizes=_recognizes, votes=True)
def argilla_flat(table: Table, options: ArgillaOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each labeler's answers to a record are a row. Suggestions are not looked at."""
    questions = _questions(table)
    records = (record if isinstance(record, Rejected) else _record(record, questions) for record in table.rows())
    return outcomes(table.name, questions, records, options)


def _record(record: Record, questions: list[str]) -> ArgillaRecord | Rejected:
    answers = []
    for name in questions:
        values = record.values.get(name + _ANSWERS)
        if values is None:  # nobody answered this question of this record
            continue
        users: Any = record.values.get(name + _USERS)
        statuses: Any = record.values.get(name + _STATUS)
        if statuses is None and isinstance(values, list):
            statuses = [None] * len(values)
        columns = {_ANSWERS: values, _USERS: users, _STATUS: statuses}
        for end, column in columns.items():
            if not isinstance(column, list):
                return Rejected(_withheld(record), f"{name}{end}: found {kind_of(column)}; expected a list")
        lengths = [len(column) for column in columns.values() if isinstance(column, list)]
        if len(set(lengths)) > 1:
            reason = f"{name}: its lists of responses, users and statuses have {', '.join(map(str, lengths))} entries"
            return Rejected(_withheld(record), f"{reason}; expected lists of one length")
        answers += [
            Answer(name, user, value, status) for value, user, status in zip(values, users, statuses, strict=True)
        ]
    fields = {name: value for name, value in record.values.items() if not name.endswith(_OTHERS)}
    fields = {name: value for name, value in fields.items() if name not in _NO_FIELDS}
    return ArgillaRecord(record.place, fields, {}, answers)


def _withheld(record: Record) -> Row:
    return raw_row(record, keep=["id"])
