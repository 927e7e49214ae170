"""The three tables that travel between steps, as polars schemas, and the way from records to a table.

``FEEDBACK`` is a batch or a corpus snapshot: one row per feedback group. ``ITEMS`` and ``PAIRS`` are what
``build_preferences`` makes of it: one row per answer and one per compared pair of answers.
"""

import hashlib
import json
from collections.abc import Iterable

import polars as pl

from rewardloop.records import FeedbackGroup, document_key

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
    return pl.DataFrame([_row(place, group) for place, group in groups], schema=FEEDBACK)


def _row(place: str, group: FeedbackGroup) -> dict[str, object]:
    content = json.dumps(
        [
            [[message.role, message.content] for message in group.prompt],
            sorted(response.content for response in group.responses),
        ],
        ensure_ascii=False,
    )
    return {
        "record": hashlib.sha256(canonical_json(group).encode()).hexdigest(),
        "content": hashlib.sha256(content.encode()).hexdigest(),
        "document": document_key(group),
        "place": place,
        "group_id": group.group_id,
        "document_id": group.document_id,
        "prompt": [message.model_dump() for message in group.prompt],
        "responses": [response.model_dump() for response in group.responses],
        "labels": [
            {
                "labeler": label.labeler,
                "labeler_kind": label.labeler_kind,
                "criterion": label.criterion,
                "kind": label.kind,
                "values": [{"response_id": key, "value": value} for key, value in label.values().items()],
                "scale": list(label.scale) if label.kind == "rating" and label.scale else None,
            }
            for label in group.labels
        ],
        "labeled_at": group.labeled_at.isoformat() if group.labeled_at else None,
        "segment": group.segment,
        "source": group.source,
        "sampling": group.sampling,
    }
