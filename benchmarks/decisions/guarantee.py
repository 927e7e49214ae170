"""Does the threshold's guarantee hold, and what does it cost? Resampled calibration sets of a known population.

In: alpha and a number of items. Out: in how many resamplings the threshold of ``certify`` lets through more than alpha
unacceptable answers in truth, and how much it accepts compared with the best threshold of the same scores.

Scores are uniform on (0, 1) and an answer that scores u is unacceptable with probability c (k + 1) (1 - u)^k. So a
threshold that accepts the share a of the answers has P(unacceptable | accepted) = c a^k, and the best one at alpha
accepts (alpha / c)^(1 / k). With c = 0.25 and k = 3 a quarter of all answers is unacceptable.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from rewardloop.config import ThresholdSettings
from rewardloop.evaluation.threshold import Labeled, certify

DELTA = 0.10
CALIBRATION = {0.05: 4000, 0.10: 1000}
"""alpha -> calibration items with which the accepted share can come within 10% of the best."""
_C, _K = 0.25, 3
_CONFIDENCE = 0.95


class Guarantee(NamedTuple):
    """Over all resamplings; one without a certified threshold promises nothing and accepts nothing."""

    violation_share: float
    violation_low: float
    violation_high: float
    accepted_share_ratio: float
    """Mean accepted share over the best."""
    certified: int
    of: int
    calibration_items: int


def unacceptable_among_accepted(accepted: float) -> float:
    """In truth, for a threshold that accepts this share of all answers."""
    return float(_C * accepted**_K)


def best_accepted_share(alpha: float) -> float:
    """Of a threshold that knew the truth."""
    return float(min(1.0, (alpha / _C) ** (1 / _K)))


def sample(items: int, rng: np.random.Generator) -> Labeled:
    """Answers of the population with their verdicts."""
    score = rng.random(items)
    return Labeled(score, rng.random(items) < _C * (_K + 1) * (1 - score) ** _K)


def guarantee(alpha: float, *, resamplings: int, items: int, seed: int = 0) -> Guarantee:
    """Certify a threshold on each of ``resamplings`` calibration sets and hold it against the truth."""
    rng = np.random.default_rng([seed, round(1000 * alpha)])
    settings = ThresholdSettings(alpha=alpha, delta=DELTA)
    nothing = sample(0, rng)
    accepted = np.zeros(resamplings)
    for place in range(resamplings):
        found = certify(sample(items, rng), nothing, settings, "planted").threshold
        accepted[place] = 0.0 if found is None else 1 - found
    violated = sum(unacceptable_among_accepted(share) > alpha for share in accepted.tolist())
    interval = binomtest(violated, resamplings).proportion_ci(_CONFIDENCE, method="exact")
    return Guarantee(
        violation_share=violated / resamplings,
        violation_low=float(interval.low),
        violation_high=float(interval.high),
        accepted_share_ratio=float(accepted.mean() / best_accepted_share(alpha)),
        certified=int((accepted > 0).sum()),
        of=resamplings,
        calibration_items=items,
    )
