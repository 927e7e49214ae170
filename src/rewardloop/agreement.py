"""How far labelers agree: Krippendorff's alpha (Krippendorff 2011, computing by the ``krippendorff`` package).

Ratings are compared on an interval scale, one unit per answer. Rankings and choices become votes, one unit per pair of
answers with the values first, tie, second. Verdicts are nominal, one unit per answer. 1 is perfect agreement, 0 is
chance, below 0 is systematic disagreement.
"""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

Measurement = Literal["nominal", "ordinal", "interval"]
_MOST_UNITS = 5_000
"""Alpha of a seeded sample of so many units is within a hundredth of the whole's; the interval metric needs memory."""
_MOST_VALUES = 100
"""Continuous values are rounded to so many steps: the package compares every value with every other one."""
_RESAMPLES = 200
_LEVEL = 0.95
"""Of the interval of alpha."""


class Agreement(NamedTuple):
    """``alpha`` is None where nobody judged the same thing, or everybody gave one and the same value."""

    alpha: float | None
    measurement: Measurement
    labelers: int | None
    """Distinct labelers; None without identities."""
    items: int
    """Units that two people or more judged."""
    low: float | None = None
    high: float | None = None
    """Percentile interval at 95% of 200 bootstrap samples of those units; None without alpha."""


def agreement(frame: pl.DataFrame, criterion: str, *, standardize: bool = False, seed: int = 0) -> Agreement:
    """Agreement on one criterion.

    Args:
        frame: a ``FEEDBACK`` table.
        criterion: which labels count. Where they are of several kinds, the most frequent kind is taken.
        standardize: standardize each labeler's ratings first (mean 0, spread 1); without identities, or for labels that
            are not ratings, alpha is None then.
        seed: of the sample of units.
    """
    values = _values(frame).filter(criterion=criterion)
    if values.is_empty():
        return Agreement(None, "nominal", None, 0)
    labelers = values["labeler"].drop_nulls().n_unique() or None
    kinds = values["kind"].replace({"choice": "ranking"}).value_counts(sort=True)
    kind = kinds.sort("count", "kind", descending=[True, False])["kind"][0]
    if kind == "ranking":
        units, measurement = _votes(values.filter(pl.col("kind").is_in(["ranking", "choice"]))), "nominal"
    else:
        chosen = values.filter(kind=kind)
        units = chosen.select(pl.col("answer").alias("unit"), "who", "labeler", "value")
        measurement = "interval" if kind == "rating" else "nominal"
    if standardize:
        if kind != "rating" or not labelers:
            return Agreement(None, _measurement(measurement), labelers, 0)
        units = _standardized(units)
    alpha, items, (low, high) = _alpha(units, measurement, seed)
    return Agreement(alpha, _measurement(measurement), labelers, items, low, high)


def agreement_of(units: pl.DataFrame, measurement: Measurement, *, seed: int = 0) -> Agreement:
    """Agreement of raters on given units.

    Args:
        units: unit, who, value; one row per rater and unit.
        measurement: how values are compared.
        seed: of the sample of units, and of the interval.
    """
    alpha, items, (low, high) = _alpha(units, measurement, seed)
    return Agreement(alpha, measurement, units["who"].n_unique(), items, low, high)


def _measurement(name: str) -> Measurement:
    return "interval" if name == "interval" else "nominal"


def _values(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per label and answer, with ``answer`` (a number; equal texts of equal groups have the same) and ``who``:
    the labeler, or the label itself."""
    rows = frame.with_row_index("row")
    # Numbers, because long texts beside every label of theirs would cost gigabytes.
    texts = (
        rows.select("row", group=pl.col("content"), response=pl.col("responses"))
        .explode("response")
        .unnest("response")
        .select("row", "response_id", pl.struct("group", "content").rank("dense").alias("answer"))
    )
    labels = rows.select("row", "content", "labels").explode("labels").with_row_index("label")
    return (
        labels.unnest("labels")
        .explode("values")
        .unnest("values")
        .join(texts, on=["row", "response_id"])
        .with_columns(pl.coalesce("labeler", pl.format("#{}", "label")).alias("who"))
    )


def _votes(values: pl.DataFrame) -> pl.DataFrame:
    """One row per person and pair: 1 the first is better, 0 the second, 0.5 a tie."""
    signed = values.with_columns(pl.when(kind="ranking").then(-pl.col("value")).otherwise("value").alias("value"))
    # Ranks and choices of different labels are not on one scale, though one person gave them.
    key = ["content", "who", "label"]
    pairs = signed.join(signed.select(*key, "answer", "value"), on=key, suffix="_b").filter(
        pl.col("answer") < pl.col("answer_b")
    )
    return pairs.select(
        pl.struct("answer", "answer_b").alias("unit"),
        "who",
        "labeler",
        ((pl.col("value") - pl.col("value_b")).sign() / 2 + 0.5).alias("value"),
    )


def _standardized(units: pl.DataFrame) -> pl.DataFrame:
    spread = pl.col("value").std(ddof=0).over("labeler")
    centered = pl.col("value") - pl.col("value").mean().over("labeler")
    return units.filter(pl.col("labeler").is_not_null()).with_columns(
        pl.when(spread > 0).then(centered / spread).otherwise(0.0).round(9).alias("value")
    )


def _alpha(
    units: pl.DataFrame, measurement: str, seed: int
) -> tuple[float | None, int, tuple[float | None, float | None]]:
    """Alpha over units that two people or more judged, their number, and alpha's interval.

    One value per person and unit: the mean of repeated ones.
    """
    import krippendorff

    single = units.group_by("unit", "who").agg(pl.col("value").mean())
    shared = single.filter(pl.len().over("unit") > 1).with_columns(pl.col("unit").rank("dense").alias("place"))
    items = int(shared["place"].n_unique())
    if not items or shared["value"].n_unique() < 2:
        return None, items, (None, None)
    if items > _MOST_UNITS:
        chosen = np.random.default_rng(seed).choice(items, _MOST_UNITS, replace=False) + 1
        shared = shared.filter(pl.col("place").is_in(chosen.tolist()))
        if shared["value"].n_unique() < 2:
            return None, items, (None, None)
    if shared["value"].n_unique() > _MOST_VALUES:
        step = (shared["value"].max() - shared["value"].min()) / _MOST_VALUES  # type: ignore[operator]
        shared = shared.with_columns((pl.col("value") / step).round() * step)
    scale, code = np.unique(shared["value"].to_numpy(), return_inverse=True)
    _, unit = np.unique(shared["place"].to_numpy(), return_inverse=True)
    counts = sparse.coo_array((np.ones(len(code), dtype=int), (unit, code))).toarray()
    alpha = krippendorff.alpha(value_counts=counts, value_domain=scale, level_of_measurement=measurement)
    return float(alpha), items, _interval(counts, scale, measurement, seed)


def _interval(
    counts: NDArray[np.int64], scale: NDArray[np.float64], measurement: str, seed: int
) -> tuple[float | None, float | None]:
    """Percentile interval of alpha, units being resampled.

    Alpha is 1 - (n - 1) D_o / D_e with D_o the sum over units of the disagreement of their values' ordered pairs
    divided by (values - 1), and D_e that of all n values' ordered pairs (Krippendorff 2011, section C). Both are sums
    over units, so that every resample is a product of matrices; the package takes seconds for each.

    Args:
        counts: shape (units, values), how many people gave each value.
        scale: the values.
    """
    difference = scale[:, None] - scale[None, :]
    distance = (difference**2) if measurement == "interval" else (difference != 0).astype(float)
    observed = ((counts @ distance) * counts).sum(axis=1) / (counts.sum(axis=1) - 1)
    random = np.random.default_rng(seed)
    weights = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_RESAMPLES)
    of_value = weights.astype(float) @ counts
    expected = ((of_value @ distance) * of_value).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alphas = 1 - (of_value.sum(axis=1) - 1) * (weights @ observed) / expected
    known = alphas[np.isfinite(alphas)]  # a resample of one value has no alpha
    if not len(known):
        return None, None
    edge = 50 * (1 - _LEVEL)
    low, high = np.percentile(known, [edge, 100 - edge])
    return float(low), float(high)
