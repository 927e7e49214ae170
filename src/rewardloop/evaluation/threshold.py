"""The accept/block threshold and what is promised of it: P(unacceptable | accepted) <= alpha with confidence 1 - delta.

In: calibration and test items with score and verdict. Out: the threshold with its evidence, and where
``threshold.review`` is set a second one, below which nobody is asked (``review.py``). How thresholds are tried is in
``fixed_sequence.py``: fixed before any calibration label is looked at, from strict to lenient.
"""

from typing import NamedTuple

import numpy as np

from rewardloop.bootstrap import Bools, Floats, Ints
from rewardloop.config import ThresholdSettings
from rewardloop.evaluation.fixed_sequence import Labeled, Side, in_sequence, least_items, strict_start, why_not
from rewardloop.evaluation.review import review
from rewardloop.evidence import Estimate, ThresholdEvidence
from rewardloop.exact import exact_share_of

__all__ = ["Labeled", "Rates", "certify", "grid_of", "least_items", "measure", "strict_start"]

_CURVE_POINTS = 60
_ACCEPT = Side("best", "unacceptable", "alpha")


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
    scores = scores[np.isfinite(scores)]  # what cannot be scored is never accepted
    start = strict_start(len(scores), settings)
    if len(scores) < start:
        return np.empty(0)
    accepted = np.unique(np.linspace(start, len(scores), settings.grid).round().astype(int))
    return np.asarray(np.unique(np.sort(scores)[::-1][accepted - 1])[::-1])


def certify(
    calibration: Labeled, test: Labeled, settings: ThresholdSettings, acceptability: str, *, confidence: float = 0.95
) -> ThresholdEvidence:
    """Choose the threshold on the calibration items and report what it does on the test items.

    Args:
        calibration: decides the threshold, and nothing else.
        test: only reported.
        settings: alpha, delta, the size of the grid, and whether people are asked about what lies between.
        acceptability: where the verdicts come from, in words.
        confidence: of the reported intervals.
    """
    grid = grid_of(calibration.score, settings)
    accepted, bad = _counts(calibration, grid)
    passed, last = in_sequence(grid, accepted, bad, settings)
    chosen = passed.threshold if passed else None
    shown = passed or last
    scored = int(np.isfinite(calibration.score).sum())
    needed, reason = None, ""
    if passed:
        reason = (
            f"Of {passed.taken:,} accepted calibration items {passed.wrong:,} are unacceptable: at most "
            f"{100 * settings.alpha:g}% of accepted answers are, with confidence {100 * (1 - settings.delta):g}%."
        )
    else:
        needed, reason = why_not(scored, last, settings, _ACCEPT)
    items = len(calibration.score)
    evidence = ThresholdEvidence(
        certified=passed is not None,
        threshold=chosen,
        alpha=settings.alpha,
        delta=settings.delta,
        acceptability=acceptability,
        calibration_items=items,
        calibration_accepted=shown.taken if shown else 0,
        calibration_unacceptable=shown.wrong if shown else 0,
        p_value=shown.p_value if shown else None,
        items_needed=needed,
        reason=reason + _one_class(calibration.unacceptable),
        unacceptable_share=float(calibration.unacceptable.mean()) if items else 0.0,
        curve=_thinned(list(zip(grid.tolist(), (accepted / items).tolist(), (bad / accepted).tolist(), strict=True)))
        if len(grid)
        else [],
        review=review(calibration, test, chosen, grid, settings, confidence),
    )
    return evidence if chosen is None else evidence.model_copy(update=measure(test, chosen, confidence)._asdict())


def measure(labeled: Labeled, threshold: float, confidence: float = 0.95) -> Rates:
    """The four rates of ``threshold`` on ``labeled``; accepted is a score that reaches it, all else is blocked."""
    accepted, bad = np.isfinite(labeled.score) & (labeled.score >= threshold), labeled.unacceptable
    return Rates(
        unacceptable_among_accepted=exact_share_of(bad[accepted], confidence, "accepted answers"),
        false_accept_rate=exact_share_of(accepted[bad], confidence, "unacceptable answers"),
        false_block_rate=exact_share_of(~accepted[~bad], confidence, "acceptable answers"),
        accepted_share=exact_share_of(accepted, confidence, "answers"),
    )


def _counts(labeled: Labeled, thresholds: Floats) -> tuple[Ints, Ints]:
    """(accepted, unacceptable among them) at each threshold."""
    scored = np.isfinite(labeled.score)
    order = np.argsort(-labeled.score[scored])
    accepted = np.searchsorted(-labeled.score[scored][order], -thresholds, side="right")
    return accepted, np.concatenate([[0], np.cumsum(labeled.unacceptable[scored][order])])[accepted]


def _one_class(unacceptable: Bools) -> str:
    """A promise about one class is true and says nothing of the model: whoever reads it shall know."""
    if not len(unacceptable) or unacceptable.min() != unacceptable.max():
        return ""
    if unacceptable[0]:
        return f" All {len(unacceptable):,} calibration items are unacceptable; check where the verdicts come from."
    return (
        f" All {len(unacceptable):,} calibration items are acceptable, so nothing shows that an unacceptable answer "
        "would be kept out; check where the verdicts come from."
    )


def _thinned(curve: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """At most as many points as a plot can show, both ends among them."""
    if len(curve) <= _CURVE_POINTS:
        return curve
    return [curve[place] for place in np.linspace(0, len(curve) - 1, _CURVE_POINTS).round().astype(int)]
