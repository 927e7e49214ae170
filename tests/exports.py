"""Exports as golden files and as rows written in a test, and what importers make of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import Outcome, Rejected, Repeated, Skipped, Taken, importers, parse_options
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.reading import Source, read_sources
from rewardloop.tables import canonical_json

DATA = Path(__file__).parent / "unit" / "feedback" / "data"


def table(name: str) -> Table:
    """A golden file's input."""
    (source,) = read_sources([DATA / name])
    return Table.of(source)


def expected(name: str) -> list[dict[str, Any]]:
    """What is written beside it, by hand."""
    text = (DATA / name).with_suffix(".expected.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def table_of(*rows: Any, name: str = "export.jsonl") -> Table:
    """Rows as JSON lines."""
    return Table.of(Source(name, "".join(json.dumps(row) + "\n" for row in rows), "0" * 64))


def read(table: Table, name: str, options: dict[str, str] | None = None, columns: Any = None) -> list[Outcome]:
    """All outcomes of the importer ``name``."""
    chosen = importers()[name]
    return list(chosen.read(table, parse_options(chosen, options or {}, columns or {}), ValidationSettings()))


def shown(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the golden files write it."""
    rows = outcome.rows if isinstance(outcome, Taken) else (outcome.row,)
    result: dict[str, Any] = {"lines": [int(row.place.rpartition(":")[2]) for row in rows]}
    if isinstance(outcome, Taken):
        result["group"] = _without_made_ids(json.loads(canonical_json(outcome.group)))
        return result | ({"left_out": Counter(outcome.left_out)} if outcome.left_out else {})
    if isinstance(outcome, Repeated):
        return result | {"repeated": True}
    return result | {"skipped" if isinstance(outcome, Skipped) else "rejected": outcome.reason}


def _without_made_ids(group: dict[str, Any]) -> dict[str, Any]:
    """Ids made from content are written ``*``; where labels name them, the response's text stands for them."""
    made = {one["response_id"]: one["content"] for one in group["responses"] if one["response_id"].startswith("c_")}
    for response in group["responses"]:
        response["response_id"] = "*" if response["response_id"] in made else response["response_id"]
    for label in group["labels"]:
        for field in {"scores", "values", "ranks"} & set(label):
            label[field] = {made.get(key, key): value for key, value in label[field].items()}
    group["group_id"] = "*" if group["group_id"].startswith("c_") else group["group_id"]
    return group


def reason(outcome: Outcome) -> str:
    """Why a row was rejected."""
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def ranks(outcome: Outcome) -> dict[str, float]:
    """The values of a group's only label."""
    assert isinstance(outcome, Taken), outcome
    (label,) = outcome.group.labels
    return dict(label.values())


def ranked(value: Any, **fields: Any) -> dict[str, Any]:
    """A task of Label Studio with one annotation by its ranker."""
    result = {"type": "ranker", "from_name": "rank", "to_name": "results", "value": value}
    items = [{"id": key, "body": key.upper()} for key in "abcd"]
    data = {"prompt": "Q", "items": items}
    return {"id": 1, "data": data, "annotations": [{"completed_by": 7, "result": [result]}], **fields}


def argilla(fields: dict[str, Any] | None = None, **responses: Any) -> dict[str, Any]:
    """A record of Argilla; ``responses``: question -> what each user answered."""
    fields = {"prompt": "Q", "response_1": "A", "response_2": "B"} if fields is None else fields
    given = {
        name: [{"value": value, "user_id": f"u{at}"} for at, value in enumerate(all)] for name, all in responses.items()
    }
    return {"id": "r", "fields": fields, "metadata": {}, "suggestions": {}, "responses": given}
