"""Which answers may be shown, as far as the feedback says: explicit verdicts, else ratings, else comparisons.

One corpus has one source of acceptability, so that a threshold means one thing: explicit ``acceptable`` labels of any
criterion where there are any, else a mean rating that reaches ``preferences.acceptable_rating`` where that is set, else
whether an answer won more than half of its comparisons. Comparisons of texts that only meet because they were grouped
say nothing of the kind: any text is better than some other one.
"""

import polars as pl


def acceptability(
    values: pl.DataFrame, ratings: pl.DataFrame, pairs: pl.DataFrame, cut: float | None
) -> tuple[pl.DataFrame, str]:
    """(``answer``, ``acceptable``) of every answer that something is known about, and the source in words.

    Args:
        values: ``Answers.values`` of all criteria.
        ratings: answer, rating (mean rating on the trained criterion).
        pairs: a, b, p inside groups that came as groups.
        cut: ``preferences.acceptable_rating``.
    """
    explicit = values.filter(kind="acceptable")
    if not explicit.is_empty():
        shares = explicit.group_by("answer").agg(pl.col("value").mean())
        return _more_than_half(shares), "explicit verdicts, the majority decides"
    if cut is not None and not ratings.is_empty():
        return ratings.select("answer", (pl.col("rating") >= cut).alias("acceptable")), f"mean rating >= {cut:g}"
    won = pl.concat(
        [
            pairs.select(pl.col("a").alias("answer"), pl.col("p").alias("value")),
            pairs.select(pl.col("b").alias("answer"), (1 - pl.col("p")).alias("value")),
        ]
    )
    known = _more_than_half(won.group_by("answer").agg(pl.col("value").mean()))
    if known.is_empty():
        return known, "not known (set preferences.acceptable_rating or ingest `acceptable` labels)"
    return known, "won more than half of its comparisons"


def _more_than_half(shares: pl.DataFrame) -> pl.DataFrame:
    decided = shares.filter((pl.col("value") - 0.5).abs() > 1e-12)
    return decided.select("answer", (pl.col("value") > 0.5).alias("acceptable")).sort("answer")
