"""Which answers may be shown, as far as the feedback says: explicit verdicts, else ratings, else comparisons.

One corpus has one source of acceptability, so that a threshold means one thing: explicit ``acceptable`` labels of any
criterion where the random sample has any (verdicts on answers that were picked on purpose do not make them the source),
else a mean rating that reaches ``preferences.acceptable_rating`` where that is set, else whether an answer won more
than half of its comparisons. ``preferences.acceptable_from`` asks for one of them instead. Comparisons of texts that
only meet because they were grouped say nothing of the kind: any text is better than some other one.

In: labels, mean ratings and pairs. Out: a verdict per answer, and where it comes from in words.
"""

from typing import Literal

import polars as pl

from rewardloop.errors import BadInputError

Source = Literal["auto", "labels", "ratings", "comparisons"]


def acceptability(
    values: pl.DataFrame,
    ratings: pl.DataFrame,
    pairs: pl.DataFrame,
    cut: float | None,
    source: Source = "auto",
    *,
    required: bool = True,
) -> tuple[pl.DataFrame, str]:
    """(``answer``, ``acceptable``) of every answer that something is known about, and the source in words.

    Args:
        values: ``Answers.values`` of all criteria.
        ratings: answer, rating (mean rating on the trained criterion).
        pairs: a, b, p inside groups that came as groups.
        cut: ``preferences.acceptable_rating``.
        source: ``preferences.acceptable_from``; auto: the first that there is.
        required: refuse a source that decides nothing; a part of a corpus may well have nothing to decide.

    Raises:
        BadInputError: the source that was asked for decides no answer.
    """
    explicit = values.filter(kind="acceptable")
    if source == "labels" or (source == "auto" and not explicit.filter(sampling="random").is_empty()):
        shares = explicit.group_by("answer").agg(pl.col("value").mean())
        return _asked(_more_than_half(shares), source, required), "explicit verdicts, the majority decides"
    if source == "ratings" and cut is None:
        raise BadInputError(
            "preferences.acceptable_from: ratings, but preferences.acceptable_rating is not set; set the rating from "
            "which on an answer is acceptable"
        )
    if cut is not None and (source == "ratings" or (source == "auto" and not ratings.is_empty())):
        known = ratings.select("answer", (pl.col("rating") >= cut).alias("acceptable"))
        return _asked(known, source, required), f"mean rating >= {cut:g}"
    won = pl.concat(
        [
            pairs.select(pl.col("a").alias("answer"), pl.col("p").alias("value")),
            pairs.select(pl.col("b").alias("answer"), (1 - pl.col("p")).alias("value")),
        ]
    )
    known = _asked(_more_than_half(won.group_by("answer").agg(pl.col("value").mean())), source, required)
    if known.is_empty():
        return known, "not known (set preferences.acceptable_rating or ingest `acceptable` labels)"
    return known, "won more than half of its comparisons"


_NOTHING = {
    "labels": "no answer has a majority of `acceptable` labels; ingest some",
    "ratings": "no answer has a rating on the trained criterion (of people, where they judged it); ingest some",
    "comparisons": "no answer won or lost most of its comparisons within a group; ingest some",
}


def _asked(known: pl.DataFrame, source: Source, required: bool) -> pl.DataFrame:
    if required and source != "auto" and known.is_empty():
        others = ", ".join(["auto", *(other for other in _NOTHING if other != source)])
        raise BadInputError(
            f"preferences.acceptable_from: {source}, but {_NOTHING[source]}, or set it to one of {others}"
        )
    return known


def _more_than_half(shares: pl.DataFrame) -> pl.DataFrame:
    decided = shares.filter((pl.col("value") - 0.5).abs() > 1e-12)
    return decided.select("answer", (pl.col("value") > 0.5).alias("acceptable")).sort("answer")
