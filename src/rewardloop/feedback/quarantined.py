"""Rows that validation found fault with, as the store's quarantine shows them.

In: a batch and what failed in it. Out: ``quarantine/<batch>/validation.jsonl``, written where it is not there yet: to
find the rows again a batch has to be read.
"""

import hashlib
import json
import math
from typing import Any

import polars as pl

from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.validation import BatchResult
from rewardloop.snapshots import Snapshot, SnapshotBatch

_NAME = "validation"


def failed_rows(snapshot: Snapshot, batch: SnapshotBatch, result: BatchResult) -> list[dict[str, Any]]:
    """place, reason and row of each failed row."""
    numbers = pl.Series([row for row, _ in result.failed], dtype=pl.UInt32)
    rows = (
        snapshot.scan_batch(batch)
        .with_row_index("number")
        .filter(pl.col("number").is_in(numbers.implode()))
        .drop("number")
        .with_columns(pl.lit(batch.digest).alias("batch"))
        .collect()
    )
    return [
        {"place": row["place"], "reason": reason, "row": _json_ready(row)}
        for (_, reason), row in zip(result.failed, rows.iter_rows(named=True), strict=True)
    ]


def digest_of(rows: list[dict[str, Any]]) -> str:
    """Tells whether the quarantine's file holds just these rows."""
    return hashlib.sha256("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()).hexdigest()


def put_in_quarantine(
    store: FeedbackStore, snapshot: Snapshot, batch: SnapshotBatch, result: BatchResult, digest: str | None
) -> None:
    """Write the failed rows of a batch, unless the file is there.

    Args:
        store: the feedback store.
        snapshot: has the batch.
        batch: what was judged.
        result: the verdict on it.
        digest: ``digest_of`` its failed rows, where it is known.
    """
    try:
        there = store.storage.read(f"quarantine/{batch.digest}/{_NAME}.jsonl")
    except FileNotFoundError:
        there = None
    if there is None or hashlib.sha256(there).hexdigest() != digest:
        store.quarantine(batch.digest, _NAME, failed_rows(snapshot, batch, result))


def _json_ready(value: Any) -> Any:
    """The same with NaN and infinities, which JSON does not have, as text."""
    if isinstance(value, dict):
        return {name: _json_ready(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_json_ready(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
