"""Which split a document belongs to: by hash, the same in every run, and no text in two splits.

In: feedback rows. Out: the split of each row, or why it is left out. A document's split depends on nothing but the
document, so that what a champion was trained on never becomes its test when more feedback comes. Texts without a prompt
may be part of several documents or lists: such a text stays in the first of golden, train, validation, calibration and
test that has it, and rows of later splits that hold it are left out. Golden documents are frozen. What was picked on
purpose (hard answers, comparisons of a policy with its reference) is trained on only: it is never judged by, and
answers of one policy or near one threshold would move the score scale that validation gives.
"""

import numpy as np
import polars as pl

from rewardloop.config import SplitSettings
from rewardloop.records import bucket, normalize_text

HELD_OUT = ("calibration", "test", "golden")
NOT_RANDOM = "not sampled at random, so it is only trained on"
TOUCHES_GOLDEN = "shares a text with the golden set"
SHARES_TEXT = "shares a text with another document that is trained on, or comes in an earlier split"
_PRECEDENCE = {split: place for place, split in enumerate(("golden", "train", "validation", "calibration", "test"))}


def place_rows(feedback: pl.DataFrame, settings: SplitSettings, golden: frozenset[str]) -> pl.DataFrame:
    """Add ``split`` and ``why`` (null for rows that are used) to ``FEEDBACK`` rows."""
    documents = feedback["document"].unique()
    edges = np.cumsum([settings.train, settings.validation, settings.calibration])
    names = np.array(["train", "validation", "calibration", "test"])
    places = np.searchsorted(edges, [bucket(settings.salt, document) for document in documents], side="right")
    table = pl.DataFrame({"document": documents, "split": names[places]}, schema_overrides={"split": pl.String})
    placed = (
        feedback.join(table, on="document", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("document").is_in(list(golden))).then(pl.lit("golden")).otherwise("split").alias("split")
        )
        .with_columns(
            pl.when((pl.col("split") != "train") & (pl.col("sampling") != "random"))
            .then(pl.lit(NOT_RANDOM))
            .alias("why")
        )
        .with_row_index("row")
    )
    first = _first_place(placed)
    return (
        placed.join(first, on="row", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("why").is_not_null() | pl.col("first").is_null())
            .then("why")
            .when(pl.col("first") == _PRECEDENCE["golden"])
            .then(pl.lit(TOUCHES_GOLDEN))
            .otherwise(pl.lit(SHARES_TEXT))
            .alias("why")
        )
        .drop("row", "first")
    )


def _first_place(placed: pl.DataFrame) -> pl.DataFrame:
    """``row`` and ``first`` (precedence of a split) of the rows with a text that belongs to an earlier split."""
    texts = (
        placed.filter(pl.col("prompt").list.len() == 0)
        .select(
            "row",
            "why",
            pl.col("split").replace_strict(_PRECEDENCE, return_dtype=pl.Int64).alias("place"),
            pl.col("responses").list.eval(pl.element().struct.field("content")).alias("text"),
        )
        .explode("text")
        .with_columns(pl.col("text").map_elements(normalize_text, return_dtype=pl.String))
    )
    # A row that is left out holds no text back; a golden document does, however its row was sampled.
    holds = pl.col("why").is_null() | (pl.col("place") == _PRECEDENCE["golden"])
    holders = texts.filter(holds).group_by("text").agg(pl.col("place").min().alias("first"))
    return (
        texts.join(holders, on="text")
        .filter(pl.col("first") < pl.col("place"))
        .group_by("row")
        .agg(pl.col("first").min())
    )
