"""How well one labeler predicts the others: what an accuracy can be compared with. A reference, not a ceiling.

A model of many labelers' consensus can be better than any one of them.
"""

import numpy as np
import polars as pl

from rewardloop.bootstrap import DocumentBootstrap
from rewardloop.config import EvaluationSettings
from rewardloop.evidence import Estimate


def one_labeler(
    pairs: pl.DataFrame, cast: pl.DataFrame, ratings: pl.DataFrame, settings: EvaluationSettings
) -> Estimate | None:
    """Accuracy of one labeler against the others on test pairs; None where no pair has two labelers.

    Where people judged both answers, each of them is compared with the mean vote of the others (ties of the others do
    not count, a tie of the one counts half), and every such comparison counts once: were they averaged inside a pair
    first, pure chance would not come out as one half. Else one seeded rating of each answer is compared with the mean
    of its other ratings, on pairs whose others differ by at least ``evaluation.min_rating_gap``.

    Args:
        pairs: a, b, document_a, document_b of the test split.
        cast: ``consensus.votes``.
        ratings: answer, value: every rating on the criterion.
        settings: for the gap, the bootstrap and the seed.
    """
    judged, unit = _by_votes(pairs, cast), "comparisons"
    if judged.is_empty():
        judged, unit = _by_ratings(pairs, ratings, settings), "pairs"
    if judged.is_empty():
        return None
    documents = np.unique(np.concatenate([judged["document_a"].to_numpy(), judged["document_b"].to_numpy()]))
    place_a, place_b = (np.searchsorted(documents, judged[side].to_numpy()) for side in ("document_a", "document_b"))
    bootstrap = DocumentBootstrap(place_a, place_b, samples=settings.bootstrap_samples, seed=settings.seed)
    found = bootstrap.estimate(judged["right"].to_numpy(), confidence=settings.confidence)
    return found.model_copy(update={"unit": unit})


def _by_votes(pairs: pl.DataFrame, cast: pl.DataFrame) -> pl.DataFrame:
    others = (pl.col("vote").sum().over("a", "b") - pl.col("vote")) / (pl.len().over("a", "b") - 1)
    return (
        cast.filter(pl.len().over("a", "b") > 1)
        .with_columns(others.alias("others"))
        .filter((pl.col("others") - 0.5).abs() > 1e-12)
        .with_columns(_right(pl.col("vote") - 0.5, pl.col("others") - 0.5).alias("right"))
        .join(pairs, on=["a", "b"])
        .sort("a", "b", "who")
    )


def _by_ratings(pairs: pl.DataFrame, ratings: pl.DataFrame, settings: EvaluationSettings) -> pl.DataFrame:
    shuffled = ratings.sort("answer", "value").sample(fraction=1.0, shuffle=True, seed=settings.seed)
    sides = (
        shuffled.group_by("answer", maintain_order=True)
        .agg(
            pl.col("value").first().alias("one"),
            ((pl.col("value").sum() - pl.col("value").first()) / (pl.len() - 1)).alias("others"),
            pl.len().alias("count"),
        )
        .filter(pl.col("count") > 1)
    )
    joined = pairs.join(sides, left_on="a", right_on="answer").join(sides, left_on="b", right_on="answer", suffix="_b")
    gap = pl.col("others") - pl.col("others_b")
    return (
        joined.filter((gap != 0) & (gap.abs() >= settings.min_rating_gap))
        .with_columns(_right(pl.col("one") - pl.col("one_b"), gap).alias("right"))
        .sort("a", "b")
    )


def _right(difference: pl.Expr, truth: pl.Expr) -> pl.Expr:
    return (difference.sign() * truth.sign()) / 2 + 0.5
