"""Length-controlled accuracy by hand, intervals against brute force, and what is said in words."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from rewardloop.bootstrap import DocumentBootstrap
from rewardloop.config import EvaluationSettings
from rewardloop.evaluation.length import (
    length_controlled,
    length_controlled_advantage,
    length_correlation,
    length_evidence,
    length_words,
)
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import Estimate

SETTINGS = EvaluationSettings(bootstrap_samples=300)


def pair_set(a_is_better: list[int], samples: int = 300) -> PairSet:
    """Pairs of items (0, 1), (2, 3), ...: one document each."""
    count = len(a_is_better)
    document = np.arange(count)
    return PairSet(
        a=2 * document,
        b=2 * document + 1,
        a_is_better=np.array(a_is_better, dtype=float),
        gap=np.full(count, np.nan),
        bootstrap=DocumentBootstrap(document, document, samples=samples, seed=0),
        confidence=0.95,
    )


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, count=100)


def test_by_hand() -> None:
    # a is longer in the first four pairs and better in three of them; in the last two b is longer, a better in both,
    # and the last but two have equal lengths.
    pairs = pair_set([1, 1, 1, 0, 1, 1, 1])
    length = np.array([5, 1, 5, 1, 5, 1, 5, 1, 3, 3, 1, 5, 1, 5], dtype=float)
    says_a = np.tile([1.0, 0.0], 7)
    # Longer better: 3 pairs, all right. Shorter better: 3 pairs, the fourth wrong.
    found = length_controlled(pairs, says_a, length)
    assert found is not None
    assert (found.value, found.count) == (pytest.approx((1 + 2 / 3) / 2), 6)
    assert found.low < found.value < found.high <= 1


def test_length_alone_is_worth_one_half_and_nothing_over_itself() -> None:
    pairs = pair_set([1, 1, 1, 0] * 10)
    length = np.tile([2.0, 1.0], 40)
    for scorer in (length, -length):
        found = length_controlled(pairs, scorer, length)
        assert found is not None
        assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    same = length_controlled_advantage(pairs, length, length, length)
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert pairs.accuracy(length).value == 0.75


def test_advantage_is_paired_and_its_value_is_the_difference() -> None:
    random = np.random.default_rng(0)
    pairs = pair_set(random.integers(0, 2, 60).tolist())
    length, scores, other = random.random((3, 120))
    parts = [length_controlled(pairs, one, length) for one in (scores, other)]
    found = length_controlled_advantage(pairs, scores, other, length)
    assert found is not None
    assert parts[0] is not None
    assert parts[1] is not None
    assert found.value == pytest.approx(parts[0].value - parts[1].value)
    assert found.low < found.value < found.high


def test_the_interval_is_that_of_copied_documents() -> None:
    random = np.random.default_rng(1)
    better = random.integers(0, 2, 12)
    pairs = pair_set(better.tolist(), samples=100)
    length, scores = random.random((2, 24))
    found = length_controlled(pairs, scores, length)
    longer_wins = np.sign(length[::2] - length[1::2]) * (better - 0.5) > 0
    right = pairs.right(scores)
    draws = np.random.default_rng(0)  # the resamples of DocumentBootstrap, document by document
    values = []
    for _ in range(100):
        copies = np.repeat(np.arange(12), draws.multinomial(12, np.full(12, 1 / 12)))
        first, second = copies[longer_wins[copies]], copies[~longer_wins[copies]]
        if len(first) and len(second):
            values.append((right[first].mean() + right[second].mean()) / 2)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_where_the_longer_answer_always_wins_nothing_can_be_said() -> None:
    length = np.tile([2.0, 1.0], 5)
    assert length_controlled(pair_set([1] * 5), length, length) is None
    assert length_controlled(pair_set([0] * 5), length, length) is None
    assert length_controlled(pair_set([1] * 5), length, np.ones(10)) is None


def test_correlation_against_copied_documents() -> None:
    random = np.random.default_rng(2)
    document = np.repeat(np.arange(10), 3)
    length = random.integers(1, 8, 30).astype(float)  # with ties
    scores = np.round(length / 4 + random.normal(size=30), 1)
    found = length_correlation(scores, length, document, SETTINGS)
    draws = np.random.default_rng(SETTINGS.seed)
    values = []
    for _ in range(SETTINGS.bootstrap_samples):
        copies = np.repeat(np.arange(30), draws.multinomial(10, np.full(10, 0.1))[document])
        values.append(spearmanr(scores[copies], length[copies]).statistic)
    assert found is not None
    assert found.value == pytest.approx(spearmanr(scores, length).statistic)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert (found.count, found.unit) == (30, "responses")


def test_correlation_leaves_out_what_has_no_score() -> None:
    length = np.array([1.0, 2, 3, 4, 99])
    scores = np.array([1.0, 2, 3, 4, np.nan])
    found = length_correlation(scores, length, np.arange(5), SETTINGS)
    assert found is not None
    assert (found.value, found.count) == (pytest.approx(1), 4)


@pytest.mark.parametrize(
    ("scores", "length"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [1, 1, 1]), ([np.nan] * 3, [1, 2, 3])]
)
def test_no_correlation_with_what_does_not_vary(scores: list[float], length: list[float]) -> None:
    assert length_correlation(np.array(scores, dtype=float), np.array(length, float), np.arange(3), SETTINGS) is None


@pytest.mark.parametrize(
    ("length_only", "accuracy", "advantage", "said"),
    [
        (
            estimate(0.739, 0.70, 0.77),
            estimate(0.745, 0.71, 0.78),
            estimate(0.006, -0.02, 0.03),
            "Length alone reaches 0.739: the candidate's 0.745 is not surely better than counting characters "
            "(+0.006 [-0.020, +0.030]). ",
        ),
        (
            estimate(0.739, 0.70, 0.77),
            estimate(0.77, 0.75, 0.79),
            estimate(0.031, 0.01, 0.05),
            "Length alone reaches 0.739: nearly as good as the candidate's 0.770 (+0.031 [+0.010, +0.050]). ",
        ),
        (
            estimate(0.739, 0.70, 0.77),
            estimate(0.9, 0.88, 0.92),
            estimate(0.161, 0.14, 0.18),
            "Length alone reaches 0.739: better than chance, so part of the candidate's 0.900 ",
        ),
        (
            estimate(0.51, 0.48, 0.54),
            estimate(0.9, 0.88, 0.92),
            estimate(0.39, 0.36, 0.42),
            "Length alone reaches 0.510: no better than chance; the candidate's 0.900 ",
        ),
        (
            estimate(0.6, 0.5, 0.7),
            estimate(0.7, 0.6, 0.8),
            estimate(0.1, float("nan"), float("nan")),
            "Length alone reaches 0.600: the candidate's 0.700 is not surely better ",
        ),
    ],
)
def test_what_is_said(length_only: Estimate, accuracy: Estimate, advantage: Estimate, said: str) -> None:
    words = length_words(length_only, accuracy, advantage, estimate(0.8, 0.7, 0.9), near=0.05)
    assert words.startswith(said)
    assert words.endswith(" the candidate reaches 0.800 [0.700, 0.900].")


@pytest.mark.parametrize(
    ("controlled", "said"),
    [
        (None, "could not be measured: the longer answer always wins, or never."),
        (estimate(0.52, 0.49, 0.55), "reaches 0.520 [0.490, 0.550], which may be chance."),
    ],
)
def test_what_is_said_of_the_controlled_accuracy(controlled: Estimate | None, said: str) -> None:
    same = estimate(0.7, 0.6, 0.8)
    assert length_words(same, same, estimate(0, 0, 0), controlled, near=0.05).endswith(said)


def test_a_length_hacker_and_an_honest_model() -> None:
    """People prefer the longer answer in 3 of 4 pairs; quality decides, and length goes along with it."""
    random = np.random.default_rng(3)
    count = 400
    better = random.integers(0, 2, count)
    longer_is_better = random.random(count) < 0.75
    length = np.empty(2 * count)
    a_longer = np.where(longer_is_better, better == 1, better == 0)
    length[::2], length[1::2] = np.where(a_longer, [[200.0], [100.0]], [[100.0], [200.0]])
    length += random.random(2 * count)
    quality = np.empty(2 * count)
    quality[::2], quality[1::2] = better, 1 - better
    pairs = pair_set(better.tolist())
    document = np.repeat(np.arange(count), 2)

    def found(scores: Any) -> Any:
        return length_evidence(pairs, scores, length, length, document, SETTINGS)

    hacker = found(length + random.normal(size=2 * count))
    honest = found(quality + random.normal(size=2 * count) / 2)
    assert hacker.controlled_over_length_only.low <= 0.01
    assert honest.controlled_over_length_only.low > 0.3
    assert hacker.correlation.low > 0.7 > honest.correlation.high
    assert hacker.words.startswith("Length alone reaches 0.7")
    assert "not surely better than counting characters" in hacker.words
    assert "which may be chance" in hacker.words
    assert "better than chance, so part of the candidate's" in honest.words
