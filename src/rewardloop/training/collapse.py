"""When a policy must not learn on: its text has collapsed, its KL is beyond the budget, or nothing gets better.

In: facts of an update's answers and of the reference's. Out: the reason to stop, in words, or nothing. A mean KL within
bounds does not protect the text: a policy can give every prompt the same short answer at 9 nats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rewardloop.config import KlSettings, StopSettings
from rewardloop.evidence import ValidationRewardPoint
from rewardloop.text_metrics import distinct_ngrams

_TOKENS_NEEDED = 200
"""Fewer tokens say little about diversity."""


@dataclass(frozen=True)
class TextFacts:
    """What a set of answers looks like, whatever it says."""

    answers: int
    length: float
    """Mean tokens."""
    unfinished: float
    """Share without an end."""
    distinct_bigrams: float
    empty: float
    """Share of answers without a character."""


def facts_of(answers: Sequence[Sequence[int]], finished: Sequence[bool], empty: Sequence[bool]) -> TextFacts:
    """Facts of answers given as tokens."""
    count = len(answers)
    return TextFacts(
        answers=count,
        length=sum(map(len, answers)) / count,
        unfinished=1 - sum(finished) / count,
        distinct_bigrams=distinct_ngrams(answers, 2),
        empty=sum(empty) / count,
    )


def collapsed(now: TextFacts, reference: TextFacts, stop: StopSettings) -> str:
    """Why the policy's text counts as collapsed; empty when it does not.

    ``reference`` is of as many answers: distinct bigrams become fewer as text grows.
    """
    if now.empty > 0.5 + reference.empty / 2:
        return f"{now.empty:.0%} of the answers are empty"
    shortest = stop.min_length_share * reference.length
    if now.length < shortest:
        return (
            f"answers have {now.length:.1f} tokens on average, the reference's {reference.length:.1f}: less than "
            f"align.stop.min_length_share = {stop.min_length_share:g} of that"
        )
    if now.unfinished - reference.unfinished > stop.max_unfinished_rise:
        return (
            f"{now.unfinished:.0%} of the answers have no end, of the reference's {reference.unfinished:.0%}: a rise "
            f"above align.stop.max_unfinished_rise = {stop.max_unfinished_rise:g}"
        )
    least = stop.min_diversity_share * reference.distinct_bigrams
    if now.answers * now.length >= _TOKENS_NEEDED and now.distinct_bigrams < least:
        return (
            f"{now.distinct_bigrams:.2f} of the answers' bigrams are distinct, of the reference's "
            f"{reference.distinct_bigrams:.2f}: less than align.stop.min_diversity_share = "
            f"{stop.min_diversity_share:g} of that"
        )
    return ""


def over_budget(kl: float, settings: KlSettings) -> str:
    """Why the KL is too large; empty when it is not."""
    if kl <= settings.budget:
        return ""
    return f"the rollouts' KL is {kl:.2f} nats, beyond align.kl.budget = {settings.budget:g}"


def plateau(points: Sequence[ValidationRewardPoint], stop: StopSettings) -> str:
    """Why nothing more is expected; empty when the last evaluations still brought something."""

    def reward(place: int) -> float:
        return points[place].reward if points[place].within_budget else -math.inf  # such weights are never kept

    best = max(range(len(points)), key=reward, default=0)
    without = len(points) - 1 - best
    if without < stop.patience:
        return ""
    return f"{without} evaluations on validation prompts brought no better reward than update {points[best].update}"
