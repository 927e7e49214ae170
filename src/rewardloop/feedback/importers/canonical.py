"""rewardloop's own format: one feedback group per line of JSON, see ``rewardloop.records.FeedbackGroup``."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    WITHHELD,
    LabelerId,
    Options,
    Outcome,
    Rejected,
    Row,
    Taken,
    importer,
)
from rewardloop.feedback.importers.table import Record, Table
from rewardloop.records import FeedbackGroup

_LABEL_FIELDS = ("kind", "criterion", "labeler_kind", "ranks", "scores", "scale", "chosen", "rejected", "values")
_REASONS = 3


class CanonicalOptions(Options):
    """Everything is in the records."""


def _recognizes(table: Table, options: CanonicalOptions) -> str | None:
    if table.shape != "table" and all({"responses", "labels"} <= set(record.values) for record in table.first):
        return "its JSON objects have the keys 'responses' and 'labels'"
    return None


@importer("canonical", "rewardloop's own records, one per line", CanonicalOptions, recognizes=_recognizes)
def canonical(table: Table, options: CanonicalOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each line is checked against the record's definition."""
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = _raw(record)
        try:
            yield Taken(FeedbackGroup.model_validate(record.values), (row,))
        except ValidationError as error:
            yield Rejected(row, _explain(error))


def _raw(record: Record) -> Row:
    raw: dict[str, Any] = {}
    for name, value in record.values.items():
        if name == "labels":
            raw[name] = [_raw_label(label) for label in value] if isinstance(value, list) else WITHHELD
        else:
            raw[name] = value if name in FeedbackGroup.model_fields else WITHHELD
    return Row(record.place, raw)


def _raw_label(label: Any) -> Any:
    if not isinstance(label, dict):
        return WITHHELD
    known = {name: value for name, value in label.items() if name in _LABEL_FIELDS}
    if label.get("labeler") is not None:
        known["labeler"] = LabelerId(label["labeler"])
    return known | {name: WITHHELD for name in label if name != "labeler" and name not in _LABEL_FIELDS}


def _explain(error: ValidationError) -> str:
    """The first mistakes. Values are not quoted (one might be a labeler's id), but by rewardloop's own checks."""
    every = error.errors(include_url=False, include_input=False)
    # A list whose only entry is wrong is also called too short: that is no second mistake.
    wrong = {item["loc"][:1] for item in every if len(item["loc"]) > 1}
    found = [item for item in every if not (item["type"] == "too_short" and item["loc"] in wrong)]
    reasons = [
        f"{'.'.join(map(str, item['loc'])) or 'record'}: {item['msg'].removeprefix('Value error, ')}"
        for item in found[:_REASONS]
    ]
    more = f" (and {len(found) - _REASONS} more)" if len(found) > _REASONS else ""
    return "; ".join(reasons) + more
