"""What labelers together say about a pair of answers: p = P(a is better than b), and how many comparisons say so.

Where one person judged both answers, that is a vote (ties one half) and each person has one. Where nobody judged both,
the probability of superiority compares every rating of the one with every rating of the other. A pair about which
nothing is known is absent; a tie is present with p = 0.5.
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


def votes(pairs: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """One row per person and pair of which the person judged both answers.

    Args:
        pairs: a, b (answers).
        values: ``Answers.values`` of one criterion.

    Returns:
        a, b, who, vote: 1 where a is better, 0 where b is, 0.5 for a tie or for contradicting labels.
    """
    sheet = ["sheet", "kind"]
    judged = (
        values.group_by(*sheet, "who", "answer")
        .agg(pl.col("value").mean())
        # Most anonymous ratings stand alone on their sheet; without them the joins stay small.
        .filter(pl.len().over(sheet) > 1)
    )
    return (
        pairs.select("a", "b")
        .join(judged, left_on="a", right_on="answer")
        .join(judged.drop("who"), left_on=["b", *sheet], right_on=["answer", *sheet], suffix="_b")
        .with_columns(((pl.col("value") - pl.col("value_b")).sign() / 2 + 0.5).alias("vote"))
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


def superiority(pairs: pl.DataFrame, ratings: pl.DataFrame) -> tuple[Floats, Floats]:
    """P(rating of a > rating of b) + P(equal) / 2 over all pairs of ratings (Vargha and Delaney 2000, equation 1).

    Returns:
        p and the smaller of the two numbers of ratings, shape (pairs,); NaN where either answer has none.
    """
    p, count = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    if ratings.is_empty():
        return p, count
    answers = int(max(ratings["answer"].max(), pairs["a"].max(), pairs["b"].max())) + 1  # type: ignore[arg-type,type-var]
    rated = np.bincount(ratings["answer"].to_numpy(), minlength=answers)
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    known = np.flatnonzero((rated[a] > 0) & (rated[b] > 0))
    wins, cells = _wins(ratings, answers, int(rated.max()))
    for rows in np.array_split(known, max(1, int(np.ceil(len(known) * cells / _CELLS)))):
        p[rows] = wins(a[rows], b[rows]) / (rated[a[rows]] * rated[b[rows]])
    count[known] = np.minimum(rated[a[known]], rated[b[known]])
    return p, count


def _wins(ratings: pl.DataFrame, answers: int, most: int) -> tuple[Callable[[Ints, Ints], Floats], int]:
    """How to count (a's ratings above b's, ties one half) for arrays of answers, and the cells that a pair takes.

    Few distinct values: through each answer's histogram. Many: every rating of a with every one of b.
    """
    answer = ratings["answer"].to_numpy()
    scale, code = np.unique(ratings["value"].to_numpy(), return_inverse=True)
    if len(scale) <= most * most:
        histogram = sparse.coo_array((np.ones(len(code)), (answer, code)), shape=(answers, len(scale))).tocsr()

        def by_histogram(a: Ints, b: Ints) -> Floats:
            of_b = histogram[b].toarray()
            below = np.cumsum(of_b, axis=1) - of_b / 2
            return np.asarray((histogram[a].toarray() * below).sum(axis=1))

        return by_histogram, len(scale)
    table = np.full((answers, most), np.nan)
    table[answer, ratings.select(pl.int_range(pl.len()).over("answer")).to_series().to_numpy()] = ratings["value"]

    def by_meeting(a: Ints, b: Ints) -> Floats:
        of_a, of_b = table[a][:, :, None], table[b][:, None, :]
        return np.asarray((of_a > of_b).sum(axis=(1, 2)) + (of_a == of_b).sum(axis=(1, 2)) / 2)

    return by_meeting, most * most
