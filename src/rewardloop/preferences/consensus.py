"""What labelers together say about a pair of answers: p = P(a is better than b), and how many comparisons say so.

Where one person judged both answers, that is a vote (ties one half) and each person has one; p is the weighted share of
the votes. Where nobody judged both, the probability of superiority compares every rating of the one with every rating
of the other. A pair about which nothing is known is absent; a tie is present with p = 0.5.

In: pairs, and ``Answers.values``. Out: votes, and p with its error for each pair.
"""

import numpy as np
import polars as pl

from rewardloop.preferences.superiority import superiority

_WEIGHT, _VOTE = pl.col("weight"), pl.col("vote")


def votes(pairs: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """One row per person and pair of which the person judged both answers.

    Args:
        pairs: a, b (answers).
        values: ``Answers.values`` of one criterion, with or without ``weight``.

    Returns:
        a, b, who; vote: 1 where a is better, 0 where b is, 0.5 for a tie or for contradicting labels; segment and batch
        of the label (the first by name where there are several); first: 1 where the record lists a before b, -1 where
        after, null where they do not stand in one record; weight: that of the label, else 1.
    """
    weight = _WEIGHT.mean() if "weight" in values.columns else pl.lit(1.0).alias("weight")
    names = {name: _names(values, name) for name in ("kind", "segment", "batch")}
    judged = (
        values.with_columns(pl.col(name).cast(kind) for name, kind in names.items())
        # One number instead of two keys: every join below is on it.
        .with_columns((pl.col("sheet") * len(_KINDS) + pl.col("kind").to_physical().cast(pl.Int64)).alias("page"))
        .group_by("page", "answer")
        .agg(
            pl.col("who").first(),
            pl.col("value").mean(),
            pl.col("row").first(),
            pl.col("position").first(),
            pl.col("segment").min(),
            pl.col("batch").min(),
            weight,
        )
        # Most anonymous ratings stand alone on their sheet; without them the joins stay small.
        .filter(pl.len().over("page") > 1)
    )
    other = judged.select("page", "answer", "value", "row", "position")
    first = pl.when(pl.col("row") == pl.col("row_b")).then((pl.col("position_b") - pl.col("position")).sign())
    return (
        pairs.select("a", "b")
        .join(judged, left_on="a", right_on="answer")
        .join(other, left_on=["b", "page"], right_on=["answer", "page"], suffix="_b")
        .select(
            *("a", "b", "who", "segment", "batch", "weight"),
            ((pl.col("value") - pl.col("value_b")).sign() / 2 + 0.5).alias("vote"),
            first.cast(pl.Float64).alias("first"),
        )
        .group_by("a", "b", "who")
        .agg(_VOTE.mean(), pl.col("segment").min(), pl.col("batch").min(), pl.col("first").mean(), _WEIGHT.mean())
        .with_columns(
            pl.when(pl.col("first").abs() == 1).then("first").alias("first"),
            pl.col("segment").cast(pl.String),
            pl.col("batch").cast(pl.String),
        )
        .sort("a", "b", "who")
    )


_KINDS = ("acceptable", "choice", "ranking", "rating")


def _names(values: pl.DataFrame, column: str) -> pl.Enum:
    """The column's names as numbers in the order of the names, which are quicker to group and to compare."""
    return pl.Enum(_KINDS) if column == "kind" else pl.Enum(values[column].drop_nulls().unique().sort())


def consensus(pairs: pl.DataFrame, cast: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """p and votes of each of ``pairs`` about which something is known.

    Args:
        pairs: a, b (answers) of the pairs that matter.
        cast: ``votes`` of the same criterion.
        values: ``Answers.values`` of the same criterion, perhaps with ``weight``.

    Returns:
        the rows of ``pairs`` that have evidence, in their order, with p, votes (effective number, see ``shares``),
        p_error and comparisons (their plain number).
    """
    result = pairs.join(shares(cast), on=["a", "b"], how="left", maintain_order="left")
    found = ["p", "votes", "comparisons"]
    for kind in ("rating", "acceptable"):
        missing = result["p"].is_null().to_numpy()
        if missing.any():
            filled = result.select(found).to_numpy(writable=True)
            filled[missing] = np.stack(superiority(result.filter(pl.col("p").is_null()), values.filter(kind=kind)), 1)
            result = result.with_columns(
                pl.Series(name, filled[:, place]).fill_nan(None) for place, name in enumerate(found)
            )
    return result.filter(pl.col("p").is_not_null()).with_columns(p_error(pl.col("p"), pl.col("votes")).alias("p_error"))


def shares(cast: pl.DataFrame, *more: str) -> pl.DataFrame:
    """The weighted share of votes for a, by pair (and by the columns ``more``).

    Returns:
        a, b, the columns of ``more``, p; votes: (sum of w)^2 / (sum of w^2), the number of equal votes that would say
        as much (Kish 1965, section 8.2); comparisons: the plain number. Where nobody's vote counts, plain ones do.
    """
    none_counts = _WEIGHT.sum() <= 0
    return cast.group_by("a", "b", *more).agg(
        pl.when(none_counts).then(_VOTE.mean()).otherwise((_WEIGHT * _VOTE).sum() / _WEIGHT.sum()).alias("p"),
        pl.when(none_counts).then(pl.len()).otherwise(_WEIGHT.sum() ** 2 / (_WEIGHT**2).sum()).alias("votes"),
        pl.len().cast(pl.Float64).alias("comparisons"),
    )


def p_error(p: pl.Expr, count: pl.Expr) -> pl.Expr:
    """Standard error of a share p of ``count`` votes, under one vote more for each side (Laplace): with
    p' = (p count + 1) / (count + 2), the square root of p' (1 - p') / (count + 2). It is never 0."""
    mended = (p * count + 1) / (count + 2)
    return (mended * (1 - mended) / (count + 2)).sqrt()
