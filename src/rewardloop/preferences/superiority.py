"""Which of two answers is better where nobody judged both: every rating of the one against every one of the other.

In: pairs, and the ratings of each answer by different people. Out: p, and how many ratings are behind it. Ratings of
people with identities are brought to one level and spread first.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]
_CELLS = 8_000_000
"""Cells handled at a time: bounds the memory to about 200 MB."""


def superiority(pairs: pl.DataFrame, ratings: pl.DataFrame) -> tuple[Floats, Floats, Floats]:
    """P(rating of a > rating of b) + P(equal) / 2 over all pairs of ratings (Vargha and Delaney 2000, equation 1).

    A meeting of two ratings counts the product of their weights. Where none of an answer's ratings counts, all do.

    Args:
        pairs: a, b (answers).
        ratings: answer, value, perhaps weight.

    Returns:
        p; the smaller of the two effective numbers of ratings, (sum of w)^2 / (sum of w^2); the smaller of the two
        plain numbers. Each of shape (pairs,), NaN where either answer has no rating.
    """
    p, votes, count = (np.full(len(pairs), np.nan) for _ in range(3))
    if ratings.is_empty():
        return p, votes, count
    answer = ratings["answer"].to_numpy()
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    answers = int(max(answer.max(), a.max(), b.max())) + 1
    rated = np.bincount(answer, minlength=answers)
    weight = _weights(ratings, answer, answers)
    total = np.bincount(answer, weights=weight, minlength=answers)
    squares = np.bincount(answer, weights=weight**2, minlength=answers)
    effective = np.divide(total**2, squares, out=np.zeros(answers), where=squares > 0)
    known = np.flatnonzero((rated[a] > 0) & (rated[b] > 0))
    wins, cells = _wins(ratings, weight, answers, int(rated.max()))
    for rows in np.array_split(known, max(1, int(np.ceil(len(known) * cells / _CELLS)))):
        share = wins(a[rows], b[rows]) / (total[a[rows]] * total[b[rows]])
        p[rows] = np.clip(share, 0, 1)  # weights leave rounding errors
    votes[known] = np.minimum(effective[a[known]], effective[b[known]])
    count[known] = np.minimum(rated[a[known]], rated[b[known]])
    return p, votes, count


def on_one_scale(values: pl.DataFrame, prior: float) -> pl.DataFrame:
    """``values`` with each labeler's ratings standardized (``rating_levels``); as they are where a rating has no
    labeler."""
    levels = rating_levels(values, prior)
    return values if levels is None else standardized(values, levels)


def rating_levels(values: pl.DataFrame, prior: float) -> pl.DataFrame | None:
    """labeler, level and spread of their ratings; None where there are no ratings, or one without labeler.

    A rating x of a labeler with n ratings becomes (x - m) / s with m = (n mean + prior overall mean) / (n + prior) and
    s^2 = (n variance + prior overall variance) / (n + prior): mean 0 and spread 1 for a labeler with many ratings, and
    the common scale for one with few, of whom it is not known whether he is harsh or saw bad answers.

    Args:
        values: ``Answers.values`` of one criterion.
        prior: ``preferences.reliability.prior_votes``.
    """
    value = pl.col("value")
    rated = values.filter(kind="rating")
    if rated.is_empty() or rated["labeler"].null_count():
        return None
    mean, variance = (float(found or 0) for found in rated.select(value.mean(), v=value.var(ddof=0)).row(0))
    own = rated.group_by("labeler").agg(
        ((value.sum() + prior * mean) / (pl.len() + prior)).alias("level"),
        ((pl.len() * value.var(ddof=0) + prior * variance) / (pl.len() + prior)).sqrt().alias("spread"),
    )
    # For a labeler of whom these ratings have none: the common scale.
    everybody = pl.DataFrame({"labeler": [None], "level": [mean], "spread": [variance**0.5]}, schema=own.schema)
    return pl.concat([own, everybody])


def standardized(values: pl.DataFrame, levels: pl.DataFrame) -> pl.DataFrame:
    """``values`` with ratings on the scale of ``rating_levels``."""
    rating, value = pl.col("kind") == "rating", pl.col("value")
    level, spread = levels.filter(pl.col("labeler").is_null()).select("level", "spread").row(0)
    own = values.join(levels, on="labeler", how="left", maintain_order="left").with_columns(
        pl.col("level").fill_null(level), pl.col("spread").fill_null(spread)
    )
    # Rounded, so that equal ratings of labelers who rate alike stay ties.
    standard = pl.when(pl.col("spread") > 0).then((value - pl.col("level")) / pl.col("spread")).otherwise(0.0).round(9)
    return own.with_columns(pl.when(rating).then(standard).otherwise(value).alias("value")).drop("level", "spread")


def _weights(ratings: pl.DataFrame, answer: Ints, answers: int) -> Floats:
    if "weight" not in ratings.columns:
        return np.ones(len(ratings))
    weight = ratings["weight"].to_numpy()
    silent = np.bincount(answer, weights=weight, minlength=answers)[answer] <= 0
    return np.asarray(np.where(silent, 1.0, weight))


def _wins(ratings: pl.DataFrame, weight: Floats, answers: int, most: int) -> tuple[Callable[[Ints, Ints], Floats], int]:
    """How to sum the weights of (a's ratings above b's, ties one half) for arrays of answers, and the cells of a pair.

    Few distinct values: through each answer's histogram. Many: every rating of a with every one of b.
    """
    answer = ratings["answer"].to_numpy()
    scale, code = np.unique(ratings["value"].to_numpy(), return_inverse=True)
    if len(scale) <= most * most:
        histogram = sparse.coo_array((weight, (answer, code)), shape=(answers, len(scale))).tocsr()

        def by_histogram(a: Ints, b: Ints) -> Floats:
            of_b = histogram[b].toarray()
            below = np.cumsum(of_b, axis=1) - of_b / 2
            return np.asarray((histogram[a].toarray() * below).sum(axis=1))

        return by_histogram, len(scale)
    table, weights = np.full((answers, most), np.nan), np.zeros((answers, most))
    place = answer, ratings.select(pl.int_range(pl.len()).over("answer")).to_series().to_numpy()
    table[place], weights[place] = ratings["value"].to_numpy(), weight

    def by_meeting(a: Ints, b: Ints) -> Floats:
        of_a, of_b = table[a][:, :, None], table[b][:, None, :]
        counts = (of_a > of_b) + (of_a == of_b) / 2
        return np.asarray(np.einsum("nij,ni,nj->n", counts, weights[a], weights[b]))

    return by_meeting, most * most
