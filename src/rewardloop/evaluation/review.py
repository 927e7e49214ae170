"""The block threshold: below it nobody is asked, because P(acceptable | blocked) <= alpha_blocked holds too.

In: calibration and test items, the accept threshold. Out: the block threshold and what lies between the two, which is
for people. It mirrors the accept threshold: the same test, the same start, from the lowest scores upwards. The two
promises are separate statements, each with confidence 1 - delta; both hold together with at least 1 - 2 delta.

What cannot be scored is neither accepted nor blocked by its score: a person sees it.
"""

import numpy as np

from rewardloop.bootstrap import Floats
from rewardloop.config import ThresholdSettings
from rewardloop.evaluation.fixed_sequence import Labeled, Side, Tried, in_sequence, strict_start, why_not
from rewardloop.evidence.reward_model import ReviewEvidence
from rewardloop.exact import exact_share_of
from rewardloop.modeling.scoring import decisions

_BLOCK = Side("worst", "acceptable", "alpha_blocked")


def block_grid_of(scores: Floats, accept_grid: Floats, settings: ThresholdSettings) -> Floats:
    """Thresholds to try, from strict (low) to lenient (high); no label is looked at.

    Quantiles of the calibration scores, and the thresholds of the accept sequence: where both certified sets meet, the
    accept threshold has to have been tested as a block threshold.

    Args:
        scores: of the calibration items.
        accept_grid: thresholds of the accept sequence.
        settings: alpha is ``alpha_blocked``.
    """
    scores = np.sort(scores[np.isfinite(scores)])
    start = strict_start(len(scores), settings)
    if len(scores) <= start:
        return np.empty(0)
    blocked = np.linspace(start, len(scores) - 1, settings.grid).round().astype(int)
    thresholds = np.union1d(scores[blocked], accept_grid)
    return np.asarray(thresholds[np.searchsorted(scores, thresholds) >= start])


def review(
    calibration: Labeled,
    test: Labeled,
    accept_threshold: float | None,
    accept_grid: Floats,
    settings: ThresholdSettings,
    confidence: float,
) -> ReviewEvidence | None:
    """Choose the block threshold on the calibration items, and report on test; None where no review is configured.

    Args:
        calibration: decides the threshold, and nothing else.
        test: only reported.
        accept_threshold: as certified; None: there is none, so nothing can lie between.
        accept_grid: thresholds of the accept sequence.
        settings: the section ``threshold``.
        confidence: of the reported intervals.
    """
    if settings.review is None:
        return None
    mirrored = settings.model_copy(update={"alpha": settings.review.alpha_blocked})
    scored = np.isfinite(calibration.score)
    scores, acceptable = calibration.score[scored], ~calibration.unacceptable[scored]
    if accept_threshold is None:
        reason = "There is no accept threshold, so there is nothing to ask people about."
        return _none(mirrored, None, None, reason)
    grid = block_grid_of(scores, accept_grid, mirrored)
    order = np.argsort(scores)
    # Every threshold before the first failure is certified, so one may stop early: at the accept threshold.
    thresholds = grid[grid <= accept_threshold]
    taken = np.searchsorted(scores[order], thresholds)
    wrong = np.concatenate([[0], np.cumsum(acceptable[order])])[taken]
    outcome = in_sequence(thresholds, taken, wrong, mirrored)
    if len(grid) and not len(thresholds):
        reason = (
            f"The accept threshold leaves {int((scores < accept_threshold).sum()):,} of {len(scores):,} calibration "
            f"items below it; the strictest block threshold blocks {strict_start(len(scores), mirrored):,}."
        )
        return _none(mirrored, None, None, reason)
    if outcome.passed is None:
        needed, reason = _why_no_block(scores, outcome.last, mirrored)
        return _none(mirrored, outcome.last, needed, reason)
    chosen = outcome.passed
    level, sure = 100 * mirrored.alpha, 100 * (1 - mirrored.delta)
    together = " It is the accept threshold: nobody is asked." if chosen.threshold == accept_threshold else ""
    decided = decisions(test.score, accept_threshold, chosen.threshold)
    blocked = decided == "block"
    return ReviewEvidence(
        certified=True,
        block_threshold=chosen.threshold,
        alpha_blocked=mirrored.alpha,
        delta=mirrored.delta,
        calibration_blocked=chosen.taken,
        calibration_acceptable=chosen.wrong,
        p_value=chosen.p_value,
        reason=(
            f"Of {chosen.taken:,} blocked calibration items {chosen.wrong:,} are acceptable: at most {level:g}% of "
            f"blocked answers are, with confidence {sure:g}%.{together}"
        ),
        acceptable_among_blocked=exact_share_of(~test.unacceptable[blocked], confidence, "blocked answers"),
        review_share=exact_share_of(decided == "review", confidence, "answers"),
    )


def _why_no_block(scores: Floats, last: Tried | None, mirrored: ThresholdSettings) -> tuple[int | None, str]:
    if last is None and len(np.unique(scores)) == 1:
        return None, f"All {len(scores):,} calibration scores are equal, so no score lies below another."
    needed, reason = why_not(len(scores), last, mirrored, _BLOCK)
    # One item more than are blocked: the threshold is the score of the next one.
    return (needed + 1 if last is None and needed is not None else needed), reason


def _none(mirrored: ThresholdSettings, last: Tried | None, needed: int | None, reason: str) -> ReviewEvidence:
    return ReviewEvidence(
        certified=False,
        block_threshold=None,
        alpha_blocked=mirrored.alpha,
        delta=mirrored.delta,
        calibration_blocked=last.taken if last else 0,
        calibration_acceptable=last.wrong if last else 0,
        p_value=last.p_value if last else None,
        items_needed=needed,
        reason=reason,
    )
