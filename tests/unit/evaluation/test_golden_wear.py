"""The golden set's wear: levels by hand, intervals that know of earlier looks, and when fresh labels are due."""

import numpy as np
import pytest
from scipy.stats import norm

from rewardloop.bootstrap import DocumentBootstrap
from rewardloop.evaluation.golden_wear import fresh_due, level_of_use, worn_difference
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import Estimate


def test_levels_by_hand() -> None:
    assert level_of_use(0.95, 1) == pytest.approx(0.975)  # 0.05 / 2
    assert level_of_use(0.95, 2) == pytest.approx(1 - 0.05 / 6)
    assert level_of_use(0.95, 3) == pytest.approx(1 - 0.05 / 12)
    # 1/2 + 1/6 + ... + 1/(n (n + 1)) = n / (n + 1): all looks together err with less than 0.05.
    assert sum(1 - level_of_use(0.95, use) for use in range(1, 100)) == pytest.approx(0.05 * 99 / 100)


def golden(right: np.ndarray) -> PairSet:
    a = 2 * np.arange(len(right))
    documents = np.arange(len(right))
    return PairSet(
        a=a,
        b=a + 1,
        a_is_better=right.astype(float),
        gap=np.full(len(right), np.nan),
        bootstrap=DocumentBootstrap(documents, documents, samples=4000, seed=0),
        confidence=0.95,
    )


def test_the_interval_widens_with_each_use() -> None:
    # The candidate is right on all, the champion wrong on 100 of 400: difference 0.25, se sqrt(0.25 x 0.75 / 400).
    pairs = golden(np.ones(400))
    candidate = np.tile([1.0, 0.0], 400)
    champion = candidate.copy()
    champion[:200] = np.tile([0.0, 1.0], 100)
    error = np.sqrt(0.25 * 0.75 / 400)
    for use, tail in ((1, 0.0125), (10, 0.05 / 110 / 2)):
        found = worn_difference(pairs, candidate, champion, use)
        assert found.value == 0.25
        assert found.level == level_of_use(0.95, use)
        assert found.value - found.low == pytest.approx(float(norm.isf(tail)) * error, rel=0.05)
        assert found.high - found.value == pytest.approx(found.value - found.low)


def test_looks_at_a_worn_set_mislead_less_often_than_promised() -> None:
    # 30 equal candidates on one golden set of 300 pairs: is any of them found surely different from the champion?
    random = np.random.default_rng(0)
    misled = 0
    for _ in range(300):
        change = random.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=(30, 300))
        z = np.abs(change.mean(axis=1)) / (change.std(axis=1) / np.sqrt(300))
        limits = norm.ppf([(1 + level_of_use(0.95, use)) / 2 for use in range(1, 31)])
        misled += bool((z > limits).any())
    assert misled / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def difference(half: float, level: float) -> Estimate:
    return Estimate(value=0.0, low=-half, high=half, level=level, count=500)


def test_fresh_labels_are_due_after_the_allowed_uses() -> None:
    assert fresh_due(19, allowed=20) is None
    words = fresh_due(20, allowed=20)
    assert words is not None
    assert "was used 20 times; gate.golden_uses is 20" in words
    assert "rewardloop golden add FILE" in words


def test_fresh_labels_are_due_when_the_interval_outgrows_the_margin() -> None:
    # Standard error 0.01, measured at use 4 (level 0.9975, z = 3.0233); the next is use 5 (0.99833, z = 3.1440).
    measured = difference(0.030233, level_of_use(0.95, 4))
    fine = fresh_due(4, allowed=20, difference=measured, documents=500, margin=0.032)
    assert fine is None
    words = fresh_due(4, allowed=20, difference=measured, documents=500, margin=0.02)
    assert words is not None
    assert "(level 0.9983) the interval reaches 0.031 to either side, more than the margin of 0.02" in words
    # Fresh labels begin at level 0.975, z = 2.2414: (2.2414 x 0.01 / 0.02)^2 x 500 = 628.0 documents.
    assert "of 628 fresh groups or more" in words


def test_an_unknown_width_is_too_wide() -> None:
    lost = difference(float("nan"), 0.975)
    words = fresh_due(1, allowed=20, difference=lost, documents=500, margin=0.02)
    assert words is not None
    assert "nan" in words
