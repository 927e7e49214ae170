"""How often each labeler is right about control items, whose answer was known before anybody was asked.

In: feedback with ``sampling: control``, in which a label on ``known-answer`` says what is right. Out: one share per
labeler. An item counts once, whatever the number of its answers: the share of its decided pairs that the labeler puts
in the right order, ties one half.
"""

import polars as pl

from rewardloop.config import KNOWN_ANSWER
from rewardloop.evidence import Estimate
from rewardloop.exact import exact_interval

_LEVEL = 0.95


def control_shares(feedback: pl.DataFrame, criterion: str) -> dict[str, Estimate]:
    """Labeler -> share right, with its exact interval; labelers without control items are not in it.

    Args:
        feedback: ``FEEDBACK`` rows.
        criterion: the labels that are judged.
    """
    values = (
        feedback.filter(pl.col("sampling") == "control")
        .select("labels")
        .with_row_index("row")
        .explode("labels")
        .with_row_index("label")
        .unnest("labels")
        .explode("values")
        .unnest("values")
        .with_columns(pl.when(kind="ranking").then(-pl.col("value")).otherwise("value").alias("value"))
    )
    known = values.filter(criterion=KNOWN_ANSWER).select("row", "response_id", pl.col("value").alias("known"))
    said = values.filter((pl.col("criterion") == criterion) & pl.col("labeler").is_not_null()).select(
        "row", "label", "labeler", "response_id", "value"
    )
    both = said.join(known.unique(["row", "response_id"]), on=["row", "response_id"])
    right = (pl.col("value") - pl.col("value_b")).sign() * (pl.col("known") - pl.col("known_b")).sign() / 2 + 0.5
    found = (
        both.join(both.drop("labeler"), on=["row", "label"], suffix="_b")
        .filter((pl.col("response_id") < pl.col("response_id_b")) & (pl.col("known") != pl.col("known_b")))
        .group_by("row", "labeler")
        .agg(right.mean().alias("right"))
        .group_by("labeler")
        .agg(pl.col("right").mean(), pl.len().alias("items"))
        .sort("labeler")
    )
    if found.is_empty():
        return {}
    low, high = exact_interval(found["right"].to_numpy(), found["items"].cast(pl.Float64).to_numpy(), _LEVEL)
    return {
        labeler: Estimate(
            value=share, low=float(below), high=float(above), level=_LEVEL, count=items, unit="control items"
        )
        for (labeler, share, items), below, above in zip(found.iter_rows(), low, high, strict=True)
    }
