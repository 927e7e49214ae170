"""What drift is measured against: the distribution on which a version's threshold was certified and reported.

In: items, their public scores and the completed ``scoring.json``. Out: the ``REFERENCE`` table, which is registered
with the version. It holds numbers only; no text leaves the evaluation with it.
"""

from typing import Any

import numpy as np
import polars as pl

from rewardloop.bootstrap import Floats
from rewardloop.config import EvaluationSettings
from rewardloop.modeling.scoring import decisions
from rewardloop.tables import schema

REFERENCE_FILE = "reference.parquet"
REFERENCE = schema(
    {
        "score": pl.Float64,  # public; null where the answer could not be scored
        "decision": pl.String,  # accept | review | block; null without a certified threshold
        "prompt_characters": pl.Int64,  # of all its messages
        "response_characters": pl.Int64,
        "segment": pl.String,
        "split": pl.String,  # calibration | test
    }
)


def reference_sample(
    items: pl.DataFrame, public: Floats, scoring: dict[str, Any], settings: EvaluationSettings
) -> pl.DataFrame:
    """``REFERENCE`` rows of the labeled population: answers of calibration and test that were sampled at random.

    One seeded answer per document, as for the threshold: those of one document are not independent, and a two-sample
    test would take them for more than they are.

    Args:
        items: the ``ITEMS`` table.
        public: one public score per item, NaN where there is none.
        scoring: ``threshold`` and ``block_threshold``; None without.
        settings: ``reference_items`` and the seed.
    """
    decided: list[str | None] = [None] * len(items)
    if scoring["threshold"] is not None:
        decided = decisions(public, scoring["threshold"], scoring["block_threshold"]).tolist()
    said = pl.col("prompt").list.eval(pl.element().struct.field("content").str.len_chars())
    return (
        items.with_columns(
            pl.Series("score", np.asarray(public, dtype=float)).fill_nan(None),
            pl.Series("decision", decided, dtype=pl.String),
            said.list.sum().alias("prompt_characters"),
            pl.col("response").str.len_chars().alias("response_characters"),
        )
        .filter(pl.col("split").is_in(["calibration", "test"]) & pl.col("random"))
        .sort("item")
        .sample(fraction=1.0, shuffle=True, seed=settings.seed)
        .unique("document", keep="first", maintain_order=True)
        .head(settings.reference_items)
        .select(REFERENCE.names())
        .cast(REFERENCE)
    )
