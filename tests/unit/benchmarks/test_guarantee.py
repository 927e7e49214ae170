"""The population of the guarantee's benchmark has the closed form that it is judged by."""

import numpy as np
import pytest

from benchmarks.decisions import guarantee
from rewardloop.config import ThresholdSettings
from rewardloop.evidence import ThresholdEvidence


def test_the_closed_form_is_that_of_the_sample() -> None:
    drawn = guarantee.sample(200_000, np.random.default_rng(0))
    for accepted in (0.3, 0.7, 1.0):
        found = drawn.unacceptable[drawn.score >= 1 - accepted].mean()
        assert found == pytest.approx(guarantee.unacceptable_among_accepted(accepted), abs=0.004)
    assert guarantee.unacceptable_among_accepted(1.0) == 0.25


@pytest.mark.parametrize("alpha", [0.05, 0.10])
def test_the_best_threshold_uses_up_alpha(alpha: float) -> None:
    assert guarantee.unacceptable_among_accepted(guarantee.best_accepted_share(alpha)) == pytest.approx(alpha)


def test_a_filter_that_needs_none_accepts_everything() -> None:
    assert guarantee.best_accepted_share(0.3) == 1.0


def test_it_holds_and_costs_little() -> None:
    found = guarantee.guarantee(0.10, resamplings=60, items=1000)
    assert found.violation_low <= guarantee.DELTA
    assert 0.88 < found.accepted_share_ratio < 1
    assert found.certified == found.of == 60


def test_a_threshold_that_promises_too_much_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = guarantee.certify

    def careless(calibration: guarantee.Labeled, *rest: object) -> ThresholdEvidence:
        # One that takes the point estimate on the calibration items for the truth.
        return honest(calibration, calibration, ThresholdSettings(alpha=0.10, delta=0.5), "planted")

    monkeypatch.setattr(guarantee, "certify", careless)
    found = guarantee.guarantee(0.10, resamplings=100, items=1000)
    assert found.violation_low > guarantee.DELTA


def test_without_items_nothing_is_accepted() -> None:
    found = guarantee.guarantee(0.05, resamplings=3, items=20)
    assert (found.certified, found.accepted_share_ratio, found.violation_share) == (0, 0.0, 0.0)
