"""The accept/block threshold and what is promised of it: P(unacceptable | accepted) <= alpha with confidence 1 - delta.

Fixed-sequence testing (as in Angelopoulos et al. 2021, "Learn then Test"): thresholds are fixed before any calibration
label is looked at, and tried from strict to lenient with an exact binomial test each; the last one before the first
failure is taken. Because the order is fixed, no correction for the number of thresholds is needed.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import binom, binomtest

from rewardloop.bootstrap import Bools, Floats
from rewardloop.config import ThresholdSettings
from rewardloop.evidence import Estimate, ThresholdEvidence

_MOST_ITEMS = 100_000_000
_CURVE_POINTS = 60


class Labeled(NamedTuple):
    """Items with a verdict, one per document: answers of one document are not independent."""

    score: Floats
    unacceptable: Bools


class Rates(NamedTuple):
    """What a threshold does on labeled items, with exact (Clopper and Pearson 1934) intervals; None without items."""

    unacceptable_among_accepted: Estimate | None
    false_accept_rate: Estimate | None
    false_block_rate: Estimate | None
    accepted_share: Estimate | None


def grid_of(scores: Floats, settings: ThresholdSettings) -> Floats:
    """Thresholds to try, from strict to lenient: quantiles of the calibration scores, which need no labels.

    Empty when there are too few items for any threshold.
    """
    scores = scores[np.isfinite(scores)]  # what cannot be scored (minus infinity) is never accepted
    start = strict_start(len(scores), settings)
    if len(scores) < start:
        return np.empty(0)
    accepted = np.unique(np.linspace(start, len(scores), settings.grid).round().astype(int))
    return np.asarray(np.unique(np.sort(scores)[::-1][accepted - 1])[::-1])


def least_items(settings: ThresholdSettings) -> int:
    """2.5 ln(delta) / ln(1 - alpha): with fewer accepted items even a perfect filter has little chance to pass."""
    return int(np.ceil(2.5 * np.log(settings.delta) / np.log(1 - settings.alpha)))


def strict_start(items: int, settings: ThresholdSettings) -> int:
    """How many of ``items`` the strictest threshold accepts: ``least_items``, or a tenth where that is more.

    The first failure ends the sequence, so the start must not fail by bad luck. With a fixed number it would, however
    many items there are; a share lets more items make it surer.
    """
    return max(least_items(settings), int(np.ceil(items / 10)))


def certify(
    calibration: Labeled, test: Labeled, settings: ThresholdSettings, acceptability: str, *, confidence: float = 0.95
) -> ThresholdEvidence:
    """Choose the threshold on the calibration items and report what it does on the test items.

    Args:
        calibration: decides the threshold, and nothing else.
        test: only reported.
        settings: alpha, delta and the size of the grid.
        acceptability: where the verdicts come from, in words.
        confidence: of the reported intervals.
    """
    items = len(calibration.score)
    share = float(calibration.unacceptable.mean()) if items else 0.0
    chosen: tuple[float, int, int, float] | None = None
    tried: tuple[float, int, int, float] | None = None
    going, curve = True, []
    for threshold in grid_of(calibration.score, settings):
        accepted, bad = _count(calibration, threshold)
        curve.append((float(threshold), accepted / items, bad / accepted))
        if going:
            tried = (float(threshold), accepted, bad, float(binom.cdf(bad, accepted, settings.alpha)))
            going = tried[3] <= settings.delta
            chosen = tried if going else chosen
    if chosen is None:
        needed, reason = _why_not(items, tried, settings)
        return ThresholdEvidence(
            certified=False,
            threshold=None,
            alpha=settings.alpha,
            delta=settings.delta,
            acceptability=acceptability,
            calibration_items=items,
            calibration_accepted=tried[1] if tried else 0,
            calibration_unacceptable=tried[2] if tried else 0,
            p_value=tried[3] if tried else None,
            items_needed=needed,
            reason=reason,
            unacceptable_share=share,
            curve=_thinned(curve),
        )
    rates = measure(test, chosen[0], confidence)
    return ThresholdEvidence(
        certified=True,
        threshold=chosen[0],
        alpha=settings.alpha,
        delta=settings.delta,
        acceptability=acceptability,
        calibration_items=items,
        calibration_accepted=chosen[1],
        calibration_unacceptable=chosen[2],
        p_value=chosen[3],
        reason=(
            f"Of {chosen[1]:,} accepted calibration items {chosen[2]:,} are unacceptable: at most "
            f"{100 * settings.alpha:g}% of accepted answers are, with confidence {100 * (1 - settings.delta):g}%."
        ),
        unacceptable_share=share,
        curve=_thinned(curve),
        **rates._asdict(),
    )


def measure(labeled: Labeled, threshold: float, confidence: float = 0.95) -> Rates:
    """The four rates of ``threshold`` on ``labeled``; accepted is a score that reaches it."""
    accepted, bad = labeled.score >= threshold, labeled.unacceptable
    return Rates(
        unacceptable_among_accepted=_exact(bad[accepted], confidence, "accepted answers"),
        false_accept_rate=_exact(accepted[bad], confidence, "unacceptable answers"),
        false_block_rate=_exact(~accepted[~bad], confidence, "acceptable answers"),
        accepted_share=_exact(accepted, confidence, "answers"),
    )


def _exact(hits: Bools, confidence: float, unit: str) -> Estimate | None:
    if not len(hits):
        return None
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(confidence, method="exact")
    return Estimate(
        value=float(hits.mean()),
        low=float(interval.low),
        high=float(interval.high),
        level=confidence,
        count=len(hits),
        unit=unit,
    )


def _thinned(curve: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """At most as many points as a plot can show, both ends among them."""
    if len(curve) <= _CURVE_POINTS:
        return curve
    return [curve[place] for place in np.linspace(0, len(curve) - 1, _CURVE_POINTS).round().astype(int)]


def _count(labeled: Labeled, threshold: float) -> tuple[int, int]:
    accepted = labeled.score >= threshold
    return int(accepted.sum()), int((accepted & labeled.unacceptable).sum())


def _why_not(
    items: int, tried: tuple[float, int, int, float] | None, settings: ThresholdSettings
) -> tuple[int | None, str]:
    """About how many calibration items would be needed, and the reason in words."""
    least = least_items(settings)
    if not items:
        return least, (
            f"No calibration item says whether it is acceptable; a threshold at alpha {settings.alpha:g} and delta "
            f"{settings.delta:g} needs {least:,} that do at the very least."
        )
    if tried is None:
        return least, (
            f"There are {items:,} calibration items with a verdict; a threshold at alpha {settings.alpha:g} and delta "
            f"{settings.delta:g} needs {least:,} at the very least."
        )
    _, accepted, bad, p_value = tried
    found = (
        f"Of the {accepted:,} best calibration items {bad:,} are unacceptable ({bad / accepted:.1%}, "
        f"p = {p_value:.3f}); alpha is {100 * settings.alpha:g}% and delta {settings.delta:g}."
    )
    if bad >= settings.alpha * accepted:
        return None, f"{found} More items would not help: the model has to tell answers apart better."
    # A grid of tenths of a percent is finer than the estimate; counts are rounded against the model.
    needed = np.unique(np.geomspace(items + 1, _MOST_ITEMS, 20_000).astype(int))
    accepts = np.maximum(least, needed // 10)
    p_values = binom.cdf(np.ceil(accepts * (bad / accepted)), accepts, settings.alpha)
    enough = np.flatnonzero(p_values <= settings.delta)
    if not len(enough):
        return None, f"{found} More items would hardly help."
    about = int(needed[enough[0]])
    return about, f"{found} At these rates about {about:,} calibration items would do."
