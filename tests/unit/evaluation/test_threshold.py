"""The guarantees of both thresholds: worked by hand, and by simulation against planted truth."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from rewardloop.config import ThresholdSettings
from rewardloop.evaluation.threshold import Labeled, certify, grid_of, least_items, measure, strict_start

SETTINGS = ThresholdSettings(alpha=0.1, delta=0.1, grid=40)
REVIEW = ThresholdSettings.model_validate({"alpha": 0.1, "delta": 0.1, "review": {"alpha_blocked": 0.3}})
NOTHING = Labeled(np.empty(0), np.empty(0, dtype=bool))


def planted(random: np.random.Generator, count: int) -> Labeled:
    """P(unacceptable | score) falls from 1 to 0 along the score."""
    score = random.normal(size=count)
    return Labeled(score, random.random(count) < 1 / (1 + np.exp(3 * score)))


def test_the_strictest_threshold_accepts_enough_to_pass() -> None:
    # 2.5 * ln(0.1) / ln(0.9) = 54.6
    assert least_items(SETTINGS) == strict_start(300, SETTINGS) == 55
    # A tenth of many items, so that more of them make the start surer.
    assert strict_start(3000, SETTINGS) == 300
    # That many perfect items pass with room to spare, a tenth of them would not.
    assert binom.cdf(0, 55, 0.1) < 0.1 < binom.cdf(0, 20, 0.1)


def test_grid_needs_no_labels_and_goes_from_strict_to_lenient() -> None:
    scores = np.random.default_rng(0).normal(size=500)
    grid = grid_of(scores, SETTINGS)
    assert (np.diff(grid) < 0).all()
    assert (scores >= grid[0]).sum() == 55
    assert grid[-1] == scores.min()


def test_what_cannot_be_scored_is_blocked() -> None:
    scores = np.concatenate([np.arange(100.0), np.full(20, -np.inf)])
    labeled = Labeled(scores, np.zeros(120, dtype=bool))
    result = certify(labeled, labeled, SETTINGS, "planted")
    assert result.threshold == 0.0
    assert result.accepted_share is not None
    assert result.accepted_share.value == pytest.approx(100 / 120)
    assert result.false_block_rate is not None
    assert result.false_block_rate.value == pytest.approx(20 / 120)


def test_by_hand() -> None:
    # 200 items, the best 100 acceptable, the other 100 not. With 100 + b accepted, b of them bad, the test passes while
    # P(Bin(100 + b, 0.1) <= b) <= 0.1.
    score = np.arange(200.0)[::-1]
    labeled = Labeled(score, np.arange(200) >= 100)
    settings = ThresholdSettings(alpha=0.1, delta=0.1, grid=10_000)
    result = certify(labeled, labeled, settings, "planted")
    bad = max(b for b in range(30) if binom.cdf(b, 100 + b, 0.1) <= 0.1)
    assert result.certified
    assert result.calibration_unacceptable == bad
    assert result.calibration_accepted == 100 + bad
    assert result.threshold == score[100 + bad - 1]


def test_a_failure_ends_the_sequence_though_later_ones_would_pass() -> None:
    # The 500 best are bad, everything else is good: no lenient threshold may be reached.
    labeled = Labeled(np.arange(5000.0)[::-1], np.arange(5000) < 500)
    result = certify(labeled, labeled, SETTINGS, "planted")
    assert not result.certified
    assert result.threshold is None
    assert result.items_needed is None
    assert "More items would not help" in result.reason


def test_too_few_items_name_the_number_needed() -> None:
    few = Labeled(np.arange(30.0), np.zeros(30, dtype=bool))
    result = certify(few, few, SETTINGS, "planted")
    assert not result.certified
    assert result.items_needed == 55
    assert "needs 55" in result.reason


def test_good_model_with_few_items_is_told_how_many_it_needs() -> None:
    # 4 of the 55 best are bad (7%): under alpha, but not with confidence.
    bad = np.zeros(60, dtype=bool)
    bad[[3, 13, 23, 33]] = True
    labeled = Labeled(np.arange(60.0)[::-1], bad)
    result = certify(labeled, labeled, SETTINGS, "planted")
    assert not result.certified
    assert result.items_needed is not None

    def passes(items: int) -> bool:
        accepts = max(55, items // 10)
        return bool(binom.cdf(math.ceil(accepts * 4 / 55), accepts, 0.1) <= 0.1)

    assert passes(result.items_needed)
    assert not any(passes(items) for items in range(60, result.items_needed - 10))
    assert f"about {result.items_needed:,} calibration items would do" in result.reason


def test_no_verdicts_at_all() -> None:
    result = certify(NOTHING, NOTHING, SETTINGS, "planted")
    assert not result.certified
    assert result.items_needed == 55
    assert result.reason.startswith("No calibration item says whether it is acceptable")


def test_small_levels_are_not_rounded_into_a_larger_promise() -> None:
    labeled = Labeled(np.arange(3000.0)[::-1], np.arange(3000) > 2000)
    result = certify(labeled, labeled, ThresholdSettings(alpha=0.025, delta=0.004, grid=10_000), "planted")
    assert "at most 2.5% of accepted answers are, with confidence 99.6%." in result.reason
    # The grid had thousands of points; a plot gets its two ends and some between.
    assert len(result.curve) == 60
    assert result.curve[0][0] > result.curve[-1][0] == 0.0


def test_the_promise_holds_as_often_as_it_says() -> None:
    """Over 400 calibration sets the true rate exceeds alpha in at most delta of them, but for three standard errors."""
    random = np.random.default_rng(1)
    truth = planted(random, 200_000)
    order = np.argsort(-truth.score)
    rate = np.cumsum(truth.unacceptable[order]) / np.arange(1, len(order) + 1)
    broken = certified = 0
    for _ in range(400):
        result = certify(planted(random, 600), NOTHING, SETTINGS, "planted")
        if result.certified and result.threshold is not None:
            certified += 1
            accepted = np.searchsorted(-truth.score[order], -result.threshold, side="right")
            broken += rate[accepted - 1] > 0.1
    assert certified > 300
    assert broken / 400 <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 400)


def power_law(random: np.random.Generator, count: int, power: int) -> Labeled:
    """Uniform scores x with P(unacceptable | x) = (1 - x)^power.

    P(unacceptable | score >= 1 - s) is then s^power / (power + 1).
    """
    score = random.random(count)
    return Labeled(score, random.random(count) < (1 - score) ** power)


def acceptable_below(threshold: float, power: int) -> float:
    """P(acceptable | score < threshold) of ``power_law``: 1 - (1 - s^(power + 1)) / ((power + 1) (1 - s))."""
    s = 1 - threshold
    return 1 - (1 - s ** (power + 1)) / ((power + 1) * threshold)


@pytest.mark.parametrize("power", [2, 3])
def test_both_promises_hold_and_little_is_given_away(power: int) -> None:
    """Over 300 calibration sets of 1,000 items, against the closed form of the truth."""
    random = np.random.default_rng(5)
    shares, accept_broken, block_broken, blocked = [], 0, 0, 0
    for _ in range(300):
        result = certify(power_law(random, 1000, power), NOTHING, REVIEW, "planted")
        assert result.review is not None
        share = 0.0 if result.threshold is None else 1 - result.threshold
        shares.append(share)
        accept_broken += share**power / (power + 1) > 0.1
        if result.review.block_threshold is not None:
            blocked += 1
            assert result.threshold is not None
            assert result.review.block_threshold <= result.threshold
            block_broken += acceptable_below(result.review.block_threshold, power) > 0.3
    for broken in (accept_broken, block_broken):
        assert binomtest(broken, 300).proportion_ci(0.95, method="exact").low <= 0.1
    assert blocked > 270
    # The best that these scores allow at 10%: s^power / (power + 1) = 0.1.
    assert np.median(shares) >= 0.9 * (0.1 * (power + 1)) ** (1 / power)


def test_more_items_make_certifying_surer() -> None:
    """6% bad among the best half: what fails by bad luck with 500 items is certified with 5,000."""

    def certified(count: int) -> int:
        random = np.random.default_rng(2)
        done = 0
        for _ in range(40):
            score = random.random(count)
            labeled = Labeled(score, random.random(count) < np.where(score > 0.5, 0.06, 0.6))
            done += certify(labeled, NOTHING, SETTINGS, "planted").certified
        return done

    few, many = certified(500), certified(5000)
    assert few < 30
    assert many > 36


def test_four_rates_by_hand() -> None:
    # Accepted: 3 of 6, of them 1 bad. Bad: 2, one accepted. Good: 4, two blocked.
    labeled = Labeled(np.array([5.0, 4, 3, 2, 1, 0]), np.array([False, True, False, False, True, False]))
    rates = measure(labeled, 3.0)
    assert [rate and (rate.value, rate.count) for rate in rates] == [(1 / 3, 3), (1 / 2, 2), (2 / 4, 4), (3 / 6, 6)]
    assert rates.accepted_share is not None
    assert rates.accepted_share.low == pytest.approx(0.11812, abs=1e-4)  # Clopper-Pearson for 3 of 6


def test_rates_without_items_are_none() -> None:
    only_good = Labeled(np.array([1.0, 2.0]), np.array([False, False]))
    assert measure(only_good, 3.0).unacceptable_among_accepted is None
    assert measure(only_good, 0.0).false_accept_rate is None


def stacked(bad: int, between: int, good: int) -> Labeled:
    """From low to high: bad items, a band of alternating ones, good items; scores 0, 1, 2, ..."""
    verdicts = [True] * bad + [bool(i % 2) for i in range(between)] + [False] * good
    return Labeled(np.arange(float(len(verdicts))), np.array(verdicts))


def test_block_threshold_by_hand() -> None:
    # 100 bad, 100 mixed, 100 good. With 100 + m blocked, half of m acceptable, the test passes while
    # P(Bin(100 + m, 0.1) <= ceil(m / 2)) <= 0.1.
    labeled = stacked(100, 100, 100)
    settings = ThresholdSettings.model_validate(
        {"alpha": 0.1, "delta": 0.1, "grid": 10_000, "review": {"alpha_blocked": 0.1}}
    )
    result = certify(labeled, labeled, settings, "planted")
    found = result.review
    assert found is not None
    assert result.threshold is not None
    more = next(m for m in range(100) if binom.cdf((m + 1) // 2, 100 + m, 0.1) > 0.1) - 1
    assert found.certified
    assert found.block_threshold == found.calibration_blocked == 100 + more
    assert found.calibration_acceptable == (more + 1) // 2
    assert found.p_value == pytest.approx(binom.cdf(found.calibration_acceptable, 100 + more, 0.1))
    assert found.acceptable_among_blocked is not None
    assert found.acceptable_among_blocked.value == found.calibration_acceptable / (100 + more)
    assert found.review_share is not None
    # Integer scores: what lies between is the difference of the thresholds.
    assert found.review_share.value == pytest.approx((result.threshold - found.block_threshold) / 300)
    expected = binomtest(int(result.threshold - found.block_threshold), 300).proportion_ci(method="exact")
    assert (found.review_share.low, found.review_share.high) == pytest.approx(expected)
    assert "at most 10% of blocked answers are, with confidence 90%." in found.reason


def test_where_both_promises_meet_nobody_is_asked() -> None:
    labeled = stacked(500, 0, 500)
    settings = ThresholdSettings.model_validate({"alpha": 0.1, "delta": 0.1, "review": {"alpha_blocked": 0.1}})
    result = certify(labeled, labeled, settings, "planted")
    assert result.review is not None
    assert result.threshold is not None
    assert result.threshold < 500  # it accepts some bad ones, as promised
    assert result.review.block_threshold == result.threshold
    # It was tested as a block threshold itself.
    assert (result.review.calibration_blocked, result.review.calibration_acceptable) == (result.threshold, 0)
    assert result.review.reason.endswith("nobody is asked.")
    assert result.review.review_share is not None
    assert result.review.review_share.value == 0.0


def test_what_has_no_score_is_asked_about_and_not_promised() -> None:
    labeled = stacked(200, 0, 200)
    test = Labeled(np.array([300.0, 10.0, np.nan, -np.inf]), np.array([False, True, False, False]))
    result = certify(labeled, test, REVIEW, "planted")
    assert result.review is not None
    assert result.review.acceptable_among_blocked is not None
    assert (result.review.acceptable_among_blocked.value, result.review.acceptable_among_blocked.count) == (0.0, 1)
    assert result.review.review_share is not None
    assert result.review.review_share.value == 0.5
    assert result.accepted_share is not None
    assert result.accepted_share.value == 0.25


def test_no_block_threshold_says_why() -> None:
    def reason(labeled: Labeled, settings: ThresholdSettings = REVIEW) -> tuple[str, int | None]:
        found = certify(labeled, labeled, settings, "planted").review
        assert found is not None
        assert not found.certified
        assert found.block_threshold is found.review_share is None
        return found.reason, found.items_needed

    strict = REVIEW.model_validate({"alpha": 0.1, "delta": 0.1, "review": {"alpha_blocked": 0.01}})
    # 2.5 ln(0.1) / ln(0.99) = 572.8; the threshold is the score of one more.
    text, needed = reason(stacked(200, 0, 200), strict)
    assert "needs 573 at the very least" in text
    assert "alpha_blocked 0.01" in text
    assert needed == 574
    # The lowest 100 are half acceptable.
    text, needed = reason(stacked(0, 400, 600))
    assert text.startswith("Of the 100 worst calibration items 50 are acceptable (50.0%")
    assert needed is None
    text, needed = reason(stacked(2000, 0, 0))
    assert text == "There is no accept threshold, so there is nothing to ask people about."
    text, needed = reason(stacked(20, 0, 980))
    assert text.startswith("The accept threshold leaves 0 of 1,000 calibration items below it; the strictest block")
    text, needed = reason(Labeled(np.ones(100), np.zeros(100, dtype=bool)))
    assert text == "All 100 calibration scores are equal, so no score lies below another."


def test_no_review_is_none() -> None:
    labeled = stacked(200, 0, 200)
    assert certify(labeled, labeled, SETTINGS, "planted").review is None


def test_one_class_is_said() -> None:
    good = Labeled(np.arange(200.0), np.zeros(200, dtype=bool))
    result = certify(good, good, SETTINGS, "planted")
    assert result.certified
    assert "All 200 calibration items are acceptable, so nothing shows" in result.reason
    bad = Labeled(np.arange(200.0), np.ones(200, dtype=bool))
    result = certify(bad, bad, SETTINGS, "planted")
    assert not result.certified
    assert result.reason.endswith("All 200 calibration items are unacceptable; check where the verdicts come from.")


def test_equal_scores_accept_all_or_nothing() -> None:
    few_bad = Labeled(np.zeros(300), np.arange(300) < 9)
    result = certify(few_bad, few_bad, SETTINGS, "planted")
    assert result.threshold == 0.0
    assert result.accepted_share is not None
    assert result.accepted_share.value == 1.0
    many_bad = Labeled(np.zeros(300), np.arange(300) < 90)
    result = certify(many_bad, many_bad, SETTINGS, "planted")
    assert not result.certified
    assert "Of the 300 best calibration items 90 are unacceptable" in result.reason


def test_items_without_a_score_do_not_count_as_items() -> None:
    scores = np.concatenate([np.arange(50.0), np.full(10, np.nan), np.full(10, np.inf)])
    labeled = Labeled(scores, np.zeros(70, dtype=bool))
    result = certify(labeled, labeled, SETTINGS, "planted")
    assert not result.certified
    assert result.reason.startswith("There are 50 calibration items with a verdict and a score; a threshold at alpha")
    assert result.items_needed == 55
    rates = measure(labeled, 0.0)
    assert rates.accepted_share is not None
    assert rates.accepted_share.value == pytest.approx(50 / 70)
