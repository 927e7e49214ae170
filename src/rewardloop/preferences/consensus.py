"""What labelers together say about a pair of answers: p = P(a is better than b), and how many comparisons say so.

Where one person judged both answers, that is a vote (ties one half) and each person has one. Where nobody judged both,
the probability of superiority compares every rating of the one with every rating of the other. A pair about which
nothing is known is absent; a tie is present with p = 0.5.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

_CELLS = 8_000_000
"""Histogram cells handled at a time: bounds the memory to about 200 MB."""


def votes(values: pl.DataFrame) -> pl.DataFrame:
    """One row per person and pair of answers that the person judged both.

    Args:
        values: ``Answers.values`` of one criterion.

    Returns:
        a, b (answers, a < b), who, vote: 1 where a is better, 0 where b is, 0.5 for a tie or for contradicting labels.
    """
    judged = values.group_by("group", "who", "kind", "answer").agg(pl.col("value").mean())
    sides = judged.select("group", "who", "kind", pl.col("answer").alias("a"), pl.col("value").alias("value_a"))
    others = judged.select("group", "who", "kind", pl.col("answer").alias("b"), pl.col("value").alias("value_b"))
    return (
        sides.join(others, on=["group", "who", "kind"])
        .filter(pl.col("a") < pl.col("b"))
        .with_columns(((pl.col("value_a") - pl.col("value_b")).sign() / 2 + 0.5).alias("vote"))
        .group_by("a", "b", "who")
        .agg(pl.col("vote").mean())
        .sort("a", "b", "who")
    )


def consensus(pairs: pl.DataFrame, cast: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """p and votes of each of ``pairs`` about which something is known.

    Args:
        pairs: a, b (answers) of the pairs that matter.
        cast: ``votes`` of the same criterion.
        values: ``Answers.values`` of the same criterion.

    Returns:
        the rows of ``pairs`` that have evidence, with p and votes, in their order.
    """
    voted = cast.group_by("a", "b").agg(pl.col("vote").mean().alias("p"), pl.len().cast(pl.Float64).alias("votes"))
    result = pairs.join(voted, on=["a", "b"], how="left", maintain_order="left")
    for kind in ("rating", "acceptable"):
        missing = result["p"].is_null().to_numpy()
        if missing.any():
            p, count = superiority(result.filter(pl.col("p").is_null()), values.filter(kind=kind))
            filled = pl.DataFrame({"p": result["p"], "votes": result["votes"]}).to_numpy(writable=True)
            filled[missing] = np.stack([p, count], axis=1)
            result = result.with_columns(
                pl.Series("p", filled[:, 0]).fill_nan(None), pl.Series("votes", filled[:, 1]).fill_nan(None)
            )
    return result.filter(pl.col("p").is_not_null())


def superiority(pairs: pl.DataFrame, ratings: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P(rating of a > rating of b) + P(equal) / 2 over all pairs of ratings (Vargha and Delaney 2000, equation 1).

    Returns:
        p and the smaller of the two numbers of ratings, shape (pairs,); NaN where either answer has none.
    """
    p, count = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    if ratings.is_empty():
        return p, count
    scale, code = np.unique(ratings["value"].to_numpy(), return_inverse=True)
    answers = int(max(ratings["answer"].max(), pairs["a"].max(), pairs["b"].max())) + 1  # type: ignore[arg-type,type-var]
    histogram = sparse.coo_array(
        (np.ones(len(code)), (ratings["answer"].to_numpy(), code)), shape=(answers, len(scale))
    ).tocsr()
    rated = np.asarray(histogram.sum(axis=1)).ravel()
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    known = np.flatnonzero((rated[a] > 0) & (rated[b] > 0))
    for rows in np.array_split(known, max(1, int(np.ceil(len(known) * len(scale) / _CELLS)))):
        of_a, of_b = histogram[a[rows]].toarray(), histogram[b[rows]].toarray()
        below = np.cumsum(of_b, axis=1) - of_b / 2
        p[rows] = (of_a * below).sum(axis=1) / (rated[a[rows]] * rated[b[rows]])
    count[known] = np.minimum(rated[a[known]], rated[b[known]])
    return p, count
