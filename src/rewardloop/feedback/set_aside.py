"""What the first batch gives up for ever: the golden documents and the anchors.

In: the first batch and the split settings. Out: document hashes, the golden rows, the anchor responses. Everything
follows from the batch and the salt alone, so an interrupted first ingest ends the same way whoever finishes it.
"""

import hashlib
import math
from typing import TypeVar

import polars as pl

from rewardloop.config import SplitSettings

_Frame = TypeVar("_Frame", pl.DataFrame, pl.LazyFrame)


def _order(salt: str, purpose: str, text: str) -> str:
    return hashlib.sha256(f"{salt}\x1f{purpose}\x1f{text}".encode()).hexdigest()


def choose_golden_documents(batch: pl.DataFrame, splits: SplitSettings) -> list[str]:
    """``splits.golden`` of the documents with items sampled at random (rounded up), by salted hash; sorted."""
    documents = batch.filter(pl.col("sampling") == "random")["document"].unique().to_list()
    count = math.ceil(splits.golden * len(documents) - 1e-9)
    return sorted(sorted(documents, key=lambda document: _order(splits.salt, "golden", document))[:count])


def golden_rows(batch: _Frame, documents: list[str]) -> _Frame:
    """The randomly sampled groups of the golden documents."""
    return batch.filter(pl.col("document").is_in(documents) & (pl.col("sampling") == "random"))


def choose_anchors(golden: pl.DataFrame, splits: SplitSettings) -> pl.DataFrame:
    """Up to ``splits.anchors`` distinct responses of the golden groups (columns prompt, response), by salted hash."""
    responses = golden.select(
        "content", "prompt", pl.col("responses").list.eval(pl.element().struct.field("content")).alias("response")
    ).explode("response")
    keys = [
        _order(splits.salt, "anchor", f"{content}\x1f{response}")
        for content, response in responses.select("content", "response").iter_rows()
    ]
    return (
        responses.with_columns(pl.Series("key", keys, dtype=pl.String))
        .unique("key")
        .sort("key")
        .head(splits.anchors)
        .select("prompt", "response")
    )
