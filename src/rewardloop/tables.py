"""The three tables that travel between steps, as polars schemas, and the way from records to a table.

``FEEDBACK`` is a batch or a corpus snapshot: one row per feedback group. ``ITEMS`` and ``PAIRS`` are what
``build_preferences`` makes of it: one row per answer and one per compared pair of answers.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import polars as pl

from rewardloop.records import FeedbackGroup, document_of

MESSAGES: pl.DataType = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_VALUES: pl.DataType = pl.List(pl.Struct({"response_id": pl.String, "value": pl.Float64}))


def schema(columns: dict[str, pl.DataType | type[pl.DataType]]) -> pl.Schema:
    """Columns with their types."""
    return pl.Schema(columns)


FEEDBACK = schema(
    {
        "record": pl.String,  # SHA-256 of the whole canonical record: equal rows are duplicates
        "content": pl.String,  # SHA-256 of prompt and responses: groups of later batches with it add labels
        "document": pl.String,  # what must never span two splits, see records.document_key
        "place": pl.String,  # where it came from, for messages: "labels.csv:17"
        "group_id": pl.String,
        "document_id": pl.String,
        "prompt": MESSAGES,
        "responses": pl.List(pl.Struct({"response_id": pl.String, "content": pl.String, "model": pl.String})),
        "labels": pl.List(
            pl.Struct(
                {
                    "labeler": pl.String,
                    "labeler_kind": pl.String,
                    "criterion": pl.String,
                    "kind": pl.String,  # ranking | rating | choice | acceptable
                    "values": _VALUES,  # rank | score | 1 chosen, 0 rejected | 1 acceptable, 0 not
                    "scale": pl.List(pl.Float64),
                }
            )
        ),
        "labeled_at": pl.String,  # ISO 8601
        "segment": pl.String,
        "source": pl.String,
        "sampling": pl.String,
    }
)
"""A corpus snapshot has one column more, ``batch``: the digest of the batch a row came with; and another one,
``weight``, where labels lose weight with age."""

ITEMS = schema(
    {
        "item": pl.Int32,  # 0 .. len - 1, the row's own position
        "group": pl.Int32,
        "split": pl.String,
        "document": pl.String,
        "segment": pl.String,
        "source": pl.String,  # null where the feedback names none
        "labeler_kind": pl.String,  # human | model | signal | mixed; null without labels
        "prompt": MESSAGES,
        "response": pl.String,
        "response_id": pl.String,
        "model": pl.String,
        "rating": pl.Float64,  # mean rating on the trained criterion; null without ratings
        "acceptable": pl.Boolean,  # null where nothing says so
        "labels": pl.Int32,
        "random": pl.Boolean,  # sampled at random: may enter calibration, test and golden
        "batches": pl.List(pl.String),  # digests of the batches that its group came with, sorted
        "labeled_at": pl.String,  # ISO 8601, the latest; null where nothing says so
    }
)

PAIRS = schema(
    {
        "split": pl.String,
        "group": pl.Int32,  # -1 for held-out pairs across groups
        "a": pl.Int32,  # item
        "b": pl.Int32,  # item
        "p": pl.Float64,  # probability that a is better than b, ties one half
        "votes": pl.Float64,  # comparisons behind p: (sum of weights)^2 / sum of squared weights
        "p_error": pl.Float64,  # standard error of p, smaller with more votes
        "gap": pl.Float64,  # |rating of a - rating of b|; null without ratings
        "weight": pl.Float64,  # what the pair counts in training, by the age of its labels; null and 1: fully
    }
)


def canonical_json(group: FeedbackGroup) -> str:
    """One line of canonical JSON, without unset fields: equal records give equal text."""
    tree = group.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def feedback_frame(groups: Iterable[tuple[str, FeedbackGroup]]) -> pl.DataFrame:
    """A ``FEEDBACK`` table from (place, group); rows keep the given order."""
    columns = FeedbackColumns()
    for place, group in groups:
        tree = group.model_dump(mode="json", by_alias=True, exclude_none=True)
        columns.add(place, tree, group.labeled_at.isoformat() if group.labeled_at else None)
    return columns.frame()


class FeedbackColumns:
    """A ``FEEDBACK`` table that grows row by row: flat lists, from which Arrow makes the nested columns at once."""

    def __init__(self) -> None:
        self._flat: dict[str, list[Any]] = {name: [] for name in _FLAT}
        self._nested: dict[str, tuple[list[int], dict[str, list[Any]]]] = {
            name: ([0], {field: [] for field in fields}) for name, fields in _NESTED.items()
        }
        self._value_counts = [0]
        self._values: tuple[list[str], list[float]] = ([], [])

    def add(self, place: str, tree: dict[str, Any], labeled_at: str | None) -> None:
        """One row from a record's canonical tree (as ``canonical_json`` writes it, unset fields absent)."""
        prompt, responses = tree["prompt"], tree["responses"]
        turns = [[turn["role"], turn["content"]] for turn in prompt]
        texts = [response["content"] for response in responses]
        record = json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        content = json.dumps([turns, sorted(texts)], ensure_ascii=False)
        flat = self._flat
        flat["record"].append(hashlib.sha256(record.encode()).hexdigest())
        flat["content"].append(hashlib.sha256(content.encode()).hexdigest())
        flat["document"].append(document_of(turns, texts, tree.get("source"), tree.get("document_id")))
        flat["place"].append(place)
        flat["group_id"].append(tree["group_id"])
        flat["document_id"].append(tree.get("document_id"))
        flat["labeled_at"].append(labeled_at)
        flat["segment"].append(tree.get("segment"))
        flat["source"].append(tree.get("source"))
        flat["sampling"].append(tree["sampling"])
        self._add_nested("prompt", prompt)
        self._add_nested("responses", responses)
        labels = tree["labels"]
        self._add_nested("labels", labels)
        ids, values = self._values
        for label in labels:
            if label["kind"] == "choice":
                ids += (label["chosen"], label["rejected"])
                values += (1.0, 0.0)
            else:
                found = label[_VALUES_OF[label["kind"]]]
                ids.extend(found)
                values.extend(map(float, found.values()))
            self._value_counts.append(len(ids))

    def _add_nested(self, name: str, entries: list[dict[str, Any]]) -> None:
        offsets, fields = self._nested[name]
        for field, column in fields.items():
            column.extend([entry.get(field) for entry in entries])
        offsets.append(offsets[-1] + len(entries))

    def __len__(self) -> int:
        return len(self._flat["record"])

    def frame(self) -> pl.DataFrame:
        """The rows so far."""
        import pyarrow as pa

        def listed(offsets: list[int], fields: dict[str, Any]) -> Any:
            arrays = [
                column if isinstance(column, pa.Array) else pa.array(column, pa.large_string())
                for column in fields.values()
            ]
            structs = pa.StructArray.from_arrays(arrays, names=list(fields))
            return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), structs)

        ids, values = self._values
        columns: dict[str, Any] = {name: pa.array(column, pa.large_string()) for name, column in self._flat.items()}
        for name, (offsets, fields) in self._nested.items():
            if name == "labels":
                known = {field: fields[field] for field in ("labeler", "labeler_kind", "criterion", "kind")}
                valued = listed(self._value_counts, {"response_id": ids, "value": pa.array(values, pa.float64())})
                scale = pa.array(fields["scale"], pa.large_list(pa.float64()))
                columns[name] = listed(offsets, {**known, "values": valued, "scale": scale})
            else:
                columns[name] = listed(offsets, fields)
        frame = pl.from_arrow(pa.table(columns))
        assert isinstance(frame, pl.DataFrame)
        return frame.select(FEEDBACK.names()).cast(FEEDBACK)


_FLAT = [name for name, kind in FEEDBACK.items() if kind == pl.String]
_NESTED = {
    "prompt": ("role", "content"),
    "responses": ("response_id", "content", "model"),
    "labels": ("labeler", "labeler_kind", "criterion", "kind", "scale"),
}
_VALUES_OF = {"ranking": "ranks", "rating": "scores", "acceptable": "values"}
"""Kind of a label -> the field with a value per response."""
