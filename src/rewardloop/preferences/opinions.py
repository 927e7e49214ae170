"""All that labelers say on the trained criterion, weighed: by segment, by reliability, by habits that were found.

In: pairs and ``Answers.values``. Out: votes and values with their weights, and what is known of labelers and segments.
"""

from typing import NamedTuple

import polars as pl

from rewardloop.config import ReliabilitySettings
from rewardloop.evidence import Estimate
from rewardloop.preferences.consensus import votes
from rewardloop.preferences.labelers import judge_labelers
from rewardloop.preferences.reliability import reliability, weigh
from rewardloop.preferences.segments import between_segments
from rewardloop.preferences.superiority import on_one_scale


class Opinions(NamedTuple):
    """``votes``: ``consensus.votes``; ``values``: of the criterion, ratings on one scale; both with ``weight``."""

    votes: pl.DataFrame
    values: pl.DataFrame
    names: pl.DataFrame
    """who, labeler."""
    labelers: pl.DataFrame
    """``labelers.judge_labelers``."""
    words: str
    """How votes were weighted, or why they were not."""
    between: dict[str, dict[str, Estimate]]
    """``segments.between_segments``."""


def gather(
    pairs: pl.DataFrame,
    answers: pl.DataFrame,
    values: pl.DataFrame,
    *,
    everybody: pl.DataFrame,
    settings: ReliabilitySettings,
    seed: int,
) -> Opinions:
    """Cast and weigh the votes on ``pairs``.

    Args:
        pairs: a, b, bunch.
        answers: answer, response.
        values: ``Answers.values`` of the criterion that count, with ``weight`` by segment.
        everybody: the same of all segments, for the agreement between them.
        settings: ``preferences.reliability``.
        seed: of samples.
    """
    cast = votes(pairs, values)
    trusted = reliability(cast, settings, seed)
    labelers = judge_labelers(
        weigh(cast.drop("weight"), trusted.labelers),
        trusted,
        pairs=pairs,
        answers=answers,
        values=values,
        settings=settings,
    )
    cast = weigh(cast, labelers)
    scaled = values if settings.method == "none" else on_one_scale(values, settings.prior_votes)
    of_all = cast if len(everybody) == len(values) else votes(pairs, everybody)
    return Opinions(
        votes=cast,
        values=weigh(scaled, labelers),
        names=values.select("who", "labeler").unique(),
        labelers=labelers,
        words=trusted.words,
        between=between_segments(of_all, pairs),
    )
