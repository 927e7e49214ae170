"""Slices against their margin: Holm by hand, sample sizes by hand, and both planted truths by simulation."""

import numpy as np
import pytest

from rewardloop.bootstrap import DocumentBootstrap
from rewardloop.config import EvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.comparison import judge_slices, pooled, slice_checks, slice_comparisons
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import Estimate
from rewardloop.evidence.comparison import SliceComparison
from rewardloop.exact import holm

Z = 1.959964


def one(name: str, value: float, error: float, documents: int) -> SliceComparison:
    difference = Estimate(value=value, low=value - Z * error, high=value + Z * error, count=documents)
    return SliceComparison(name=name, difference=difference, standard_error=error, documents=documents)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.5.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    # 2 x 0.04 = 0.08 is above 1 x 0.05: no later one is smaller.
    assert holm([0.05, 0.04]) == pytest.approx([0.08, 0.08])
    assert holm([]).tolist() == []


@pytest.mark.parametrize(
    ("value", "error", "passed"),
    [
        (-0.02, 0.004, False),  # 5 standard errors below 0, and 2 points may be lost
        (-0.005, 0.004, True),  # worse, but not surely
        (-0.005, 0.001, True),  # surely worse, and surely by less than a point: -0.005 - 0.00196 > -0.01
        (-0.0095, 0.001, False),  # surely worse, and perhaps by more than a point
        (0.03, 0.005, True),
        (0.0, 0.005, True),
    ],
)
def test_the_rule_on_one_slice(value: float, error: float, passed: bool) -> None:
    (verdict,) = judge_slices([one("s", value, error, 4000)], margin=0.01)
    assert verdict.gated
    assert verdict.passed is passed


def test_a_slice_without_enough_documents_is_reported_with_the_number_needed() -> None:
    # Half-width 1.96 x 0.01 = 1.96 margins: 1.95996^2 x 1,000 = 3,841.5 documents.
    (verdict,) = judge_slices([one("small", -0.5, 0.01, 1000)], margin=0.01)
    assert not verdict.gated
    assert verdict.passed
    assert verdict.needed == 3842
    assert verdict.p_value is None
    assert "not gated: 1,000 documents are too few for a margin of 0.01, 3,842 are needed" in verdict.reason
    assert slice_checks([verdict], "3") == []


def test_three_items_that_agree_are_no_certainty() -> None:
    (verdict,) = judge_slices([one("three", 0.0, 0.0, 3)], margin=0.01)
    assert not verdict.gated
    # Half-width 1.95996 x sqrt(ln 20) / 3 = 1.1308: 3 x 113.08^2.
    assert verdict.needed == pytest.approx(3 * 113.08**2, rel=1e-3)


def test_what_could_not_be_measured_is_gated_and_does_not_pass() -> None:
    (verdict,) = judge_slices([one("lost", float("nan"), float("nan"), 4000)], margin=0.01)
    assert verdict.gated
    assert not verdict.passed
    assert "could not be measured" in verdict.reason
    (check,) = slice_checks([verdict], "3")
    assert not check.passed


def test_holm_counts_the_gated_slices_only() -> None:
    # p = Phi(-2.25) = 0.0122: refused alone (0.0122 < 0.025), or among small ones; not among two gated ones (0.0244...
    alone = judge_slices([one("a", -0.009, 0.004, 4000), one("small", 0.0, 0.1, 10)], margin=0.01)
    assert [line.passed for line in alone] == [False, True]
    assert alone[0].p_value == pytest.approx(0.01222, abs=1e-5)
    # ... times three is 0.0367) among three.
    others = [one(name, 0.0, 0.004, 4000) for name in ("b", "c")]
    assert all(line.passed for line in judge_slices([one("a", -0.009, 0.004, 4000), *others], margin=0.01))


def test_a_slice_may_have_its_own_margin() -> None:
    measured = [one("a", -0.02, 0.004, 4000), one("b", -0.02, 0.004, 4000)]
    verdicts = judge_slices(measured, margin=0.01, own_margins={"b": 0.05})
    assert [line.passed for line in verdicts] == [False, True]
    assert [line.margin for line in verdicts] == [0.01, 0.05]
    with pytest.raises(BadInputError, match="slice 'c', which the test split lacks; it has 'a', 'b'"):
        judge_slices(measured, margin=0.01, own_margins={"c": 0.05})
    with pytest.raises(BadInputError, match="margin of slice 'a' is 0; expected more than 0"):
        judge_slices(measured, margin=0.0)


def test_a_check_names_value_limit_interval_and_reason() -> None:
    (check,) = slice_checks(judge_slices([one("segment nurses", -0.02, 0.004, 4000)], margin=0.01), "7")
    assert check.name == "not worse than champion 7 on segment nurses"
    assert (check.passed, check.value, check.limit) == (False, -0.02, -0.01)
    assert check.low == pytest.approx(-0.02784, abs=1e-5)
    assert "surely worse" in check.reason


# The comparison on all pairs ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("value", "verdict"), [(0.012, "not worse"), (-0.032, "worse"), (0.0, "undecided")])
def test_pooled(value: float, verdict: str) -> None:
    # se = 0.01: (1.959964 + 1.281552)^2 x 2,000 = 21,014.8 documents for an equal candidate.
    difference = one("", value, 0.01, 0).difference
    found = pooled(difference, 2000, margin=0.01, power=0.9)
    assert found.verdict == verdict
    assert found.needed == 21015
    assert ("21,015 would find a candidate as good as the champion" in found.reason) == (verdict == "undecided")


def test_a_better_candidate_needs_fewer_documents() -> None:
    # Three points better and one of margin: a sixteenth, 1,313.4.
    assert pooled(one("", 0.0, 0.01, 0).difference, 2000, margin=0.01, power=0.9, truth=0.03).needed == 1314


def test_no_number_of_documents_shows_equality() -> None:
    with pytest.raises(BadInputError, match="expected a margin above 0"):
        pooled(one("", 0.0, 0.01, 0).difference, 2000, margin=0.0, power=0.9)


# Planted truths -------------------------------------------------------------------------------------------------------
SIZES = (4000, 60)
DISAGREE = 0.06
RUNS = 400


def planted(seed: int, first: float, others: float = 0.0) -> list[SliceComparison]:
    """Two scorers, the champion right on about 80%, that differ on 6% of the pairs; one pair per prompt."""
    random = np.random.default_rng(seed)
    place = np.repeat(np.arange(len(SIZES)), SIZES)
    change = np.where(place == 0, first, others)
    draw = random.random(len(place))
    gains, losses = (DISAGREE + change) / 2, (DISAGREE - change) / 2
    both = random.random(len(place)) < (0.8 - losses) / (1 - DISAGREE)
    candidate = np.where(draw < gains, True, np.where(draw < gains + losses, False, both))
    champion = np.where(draw < gains, False, np.where(draw < gains + losses, True, both))
    a = 2 * np.arange(len(place))
    settings = EvaluationSettings(bootstrap_samples=100, seed=seed)
    test = PairSet(
        a=a,
        b=a + 1,
        a_is_better=np.ones(len(a)),
        gap=np.full(len(a), np.nan),
        bootstrap=DocumentBootstrap(a[:1], a[:1], samples=1, seed=0),  # each slice makes its own
        confidence=0.95,
    )
    scores = [np.stack([right, ~right], axis=1).ravel().astype(float) for right in (candidate, champion)]
    masks = {f"segment {number}": place == number for number in range(len(SIZES))}
    return slice_comparisons(test, masks, *scores, np.repeat(np.arange(len(a)), 2), settings)


def test_differences_are_paired_and_counted_by_document() -> None:
    found = planted(0, -0.02)
    assert [line.documents for line in found] == list(SIZES)
    # The spread of a paired difference is that of the 6%: sqrt((0.06 - 0.0004) / 4000) = 0.00386.
    assert found[0].standard_error == pytest.approx(0.00386, rel=0.25)
    assert found[0].difference.value == pytest.approx(-0.02, abs=0.015)


def test_the_planted_slice_is_caught_in_measured_scores() -> None:
    worse, *others = judge_slices(planted(1, -0.02), margin=0.01)
    assert not worse.passed
    assert all(line.passed for line in others)
    assert all(line.passed for line in judge_slices(planted(1, 0.0), margin=0.01))


def test_error_rates_are_as_documented() -> None:
    random = np.random.default_rng(0)

    def drawn(name: str, change: float) -> SliceComparison:
        gains, losses, _ = random.multinomial(4000, [(0.06 + change) / 2, (0.06 - change) / 2, 0.94])
        value = (gains - losses) / 4000
        return one(name, value, float(np.sqrt(((gains + losses) / 4000 - value**2) / 4000)), 4000)

    def refused(first: float) -> bool:
        return not all(
            line.passed for line in judge_slices([drawn(n, first * (n == "a")) for n in "abcdef"], margin=0.01)
        )

    assert np.mean([refused(0.0) for _ in range(RUNS)]) < 0.025 + 3 * np.sqrt(0.025 * 0.975 / RUNS)
    assert np.mean([refused(-0.02) for _ in range(RUNS)]) > 0.99 - 3 * np.sqrt(0.01 * 0.99 / RUNS)
