"""How reliable each labeler is, and what his votes count.

In: votes on pairs. Out: for each labeler and segment the probability q of being right about a decided pair, and the
weight log(q / (1 - q)) that is best for independent voters (Nitzan and Paroush 1982). q comes from the confusion
matrices of Dawid and Skene (1979), fitted by crowd-kit on a sample of pairs that several labelers judged. Each segment
is judged by itself: a minority that agrees with itself keeps its weight, whatever the majority thinks.
"""

import warnings
from typing import NamedTuple

import numpy as np
import polars as pl

from rewardloop.config import ReliabilitySettings

LABELER = ["who", "segment"]
_PAIR = ["a", "b", "segment"]
_LOSES, _TIES, _WINS = 0, 1, 2


class Reliability(NamedTuple):
    """``labelers``: who, segment, q (null where it was not estimated), weight; one row per labeler and segment."""

    labelers: pl.DataFrame
    words: str
    """The method, or why it was not used."""


def reliability(cast: pl.DataFrame, settings: ReliabilitySettings, seed: int) -> Reliability:
    """Estimate how reliable the labelers are.

    Args:
        cast: ``consensus.votes``.
        settings: ``preferences.reliability``.
        seed: of the sample and of the pairs' orientation.
    """
    known = cast.filter(pl.col("who") > 0)
    everybody = known.select(LABELER).unique().sort(LABELER)
    plain = everybody.with_columns(pl.lit(None, pl.Float64).alias("q"), pl.lit(1.0).alias("weight"))
    if settings.method == "none":
        return Reliability(plain, "every vote counts the same (preferences.reliability.method: none)")
    if known.is_empty():
        return Reliability(
            plain, "every vote counts the same: no labeler with an identity judged both answers of a pair"
        )
    shared = _sample(known, settings.max_votes_per_labeler, seed)
    if shared.is_empty():
        return Reliability(
            plain, "every vote counts the same: no pair was judged by two labelers of a segment with three"
        )
    found = _weights(_right(shared, seed), settings)
    if found.is_empty():
        few = f"no labeler has {settings.min_votes_per_labeler:,} decided votes on pairs that others judged too"
        return Reliability(plain, f"every vote counts the same: {few}")
    labelers = everybody.join(found, on=LABELER, how="left", nulls_equal=True).with_columns(
        pl.col("weight").fill_null(1)
    )
    rest = len(labelers) - len(found)
    return Reliability(
        labelers.select(*LABELER, "q", "weight"),
        f"votes weighted by reliability (Dawid and Skene 1979, from {len(shared):,} votes on pairs with two labelers "
        f"or more, each segment by itself): {len(found):,} labelers estimated, {rest:,} with too few of them count 1",
    )


def weigh(frame: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """Multiply ``weight`` of votes or values by the labeler's; 1 for who is not in ``weights`` (of who and segment)."""
    start = frame if "weight" in frame.columns else frame.with_columns(pl.lit(1.0).alias("weight"))
    own = weights.select(*LABELER, pl.col("weight").alias("own"))
    return (
        start.join(own, on=LABELER, how="left", nulls_equal=True, maintain_order="left")
        .with_columns((pl.col("weight") * pl.col("own").fill_null(1)).alias("weight"))
        .drop("own")
    )


def _sample(known: pl.DataFrame, at_most: int, seed: int) -> pl.DataFrame:
    """Votes on pairs that two labelers or more judged, in segments with three labelers or more.

    Of two labelers who differ nobody can tell which one errs. Everybody's sample prefers the same pairs, so that what
    is sampled still overlaps.
    """
    pairs = known.select("a", "b").unique().sort("a", "b")
    order = pairs.with_columns(pl.Series("order", np.random.default_rng(seed).permutation(len(pairs))))
    shared = (
        known.select("a", "b", "who", "segment", "vote")
        .filter((pl.len().over(_PAIR) > 1) & (pl.col("who").n_unique().over("segment") > 2))
        .join(order, on=["a", "b"])
        .filter(pl.col("order").rank("ordinal").over(LABELER) <= at_most)
    )
    return shared.filter(pl.len().over(_PAIR) > 1).sort("a", "b", "segment", "who")


def _right(shared: pl.DataFrame, seed: int) -> pl.DataFrame:
    """who, segment, n (decided votes), right: probability of the right answer where pair and vote are decided.

    Every pair is given twice, the second time mirrored: which answer is called a says nothing, so both sides are
    equally likely and a labeler errs alike on either. Workers are labelers in one segment, and so are tasks.
    """
    import pandas as pd
    from crowdkit.aggregation import DawidSkene  # takes seconds to import

    sign = (pl.col("vote") - 0.5).sign().cast(pl.Int64)
    numbered = shared.select(
        *LABELER,
        pl.struct(_PAIR).rank("dense").cast(pl.Int64).alias("pair"),
        pl.struct(LABELER).rank("dense").cast(pl.Int64).alias("worker"),
        (sign + _TIES).alias("label"),
    )
    task, worker, label = (numbered[name].to_numpy() for name in ("pair", "worker", "label"))
    # crowd-kit takes the labels' order of appearance for ties of the majority: shuffled, it favours nobody.
    order = np.random.default_rng(seed).permutation(2 * len(task))
    answers = pd.DataFrame(
        {
            "task": np.concatenate([task, -task])[order],
            "worker": np.concatenate([worker, worker])[order],
            "label": np.concatenate([label, _WINS - label])[order],
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, inside crowd-kit
        fitted = DawidSkene().fit(answers)
    assert fitted.errors_ is not None
    assert fitted.priors_ is not None
    errors = fitted.errors_.unstack("label", fill_value=0.0)  # columns (true label, vote)
    prior = fitted.priors_

    def of(truth: int, vote: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        known = (truth, vote) in errors.columns
        return prior[truth] * errors[(truth, vote)].to_numpy(dtype=float) if known else np.zeros(len(errors))

    right = of(_WINS, _WINS) + of(_LOSES, _LOSES)
    wrong = of(_WINS, _LOSES) + of(_LOSES, _WINS)
    share = np.divide(right, right + wrong, out=np.full(len(errors), 0.5), where=right + wrong > 0)
    by_worker = pl.DataFrame({"worker": errors.index.to_numpy(dtype=np.int64), "right": share})
    return (
        numbered.group_by(*LABELER, "worker")
        .agg((pl.col("label") != _TIES).sum().alias("n"))
        .join(by_worker, on="worker")
        .drop("worker")
        .sort(LABELER)
    )


def _weights(right: pl.DataFrame, settings: ReliabilitySettings) -> pl.DataFrame:
    """who, segment, q and weight of the labelers with enough votes.

    q = (n right + k mean) / (n + k), with the segment's mean over votes and k = ``prior_votes``; it stays 1 / (N + 2)
    away from 0 and 1, N being all votes of the segment (Laplace's rule), so that no weight is infinite. A weight is
    max(0, log(q / (1 - q))) over its mean in the segment; 1 where nobody's is above 0.
    """
    n, k = pl.col("n"), settings.prior_votes
    mean = ((n * pl.col("right")).sum() / n.sum()).over("segment")
    edge = 1 / (n.sum().over("segment") + 2)
    odds = (pl.col("q") / (1 - pl.col("q"))).log().clip(0)
    scale = odds.mean().over("segment")
    return (
        right.filter(n >= settings.min_votes_per_labeler)
        .with_columns(((n * pl.col("right") + k * mean) / (n + k)).alias("q"))
        .with_columns(pl.max_horizontal(edge, pl.min_horizontal(1 - edge, "q")).alias("q"))
        .select(*LABELER, "q", pl.when(scale > 0).then(odds / scale).otherwise(1.0).alias("weight"))
    )
