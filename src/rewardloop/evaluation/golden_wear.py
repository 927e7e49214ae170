"""A golden set that is looked at every week wears out: the level of each look, and when fresh labels are due.

In: how often the golden set was used, what was measured on it. Out: the level to judge at, the difference at that
level, and words about fresh labels.
"""

import math

import numpy as np
from scipy.special import ndtri

from rewardloop.bootstrap import Floats
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import Estimate


def level_of_use(confidence: float, use: int) -> float:
    """Level at which the ``use``-th look at one golden set is judged: 1 - (1 - confidence) / (use (use + 1)).

    1/2 + 1/6 + 1/12 + ... = 1, so the chance that any look ever is misled is at most 1 - confidence (union bound over
    the looks, however many there will be). The bound covers candidates that were made without the golden set. It does
    not cover what people choose by what they saw of it: settings, data or candidates picked for their golden figures
    fit themselves to this very sample. Against that only fresh labels help, or a mechanism that answers less (Dwork et
    al., "The reusable holdout: preserving validity in adaptive data analysis", Science 2015; Blum and Hardt, "The
    Ladder: a reliable leaderboard for machine learning competitions", ICML 2015). The gate tells a candidate's maker
    one bit and the report figures; so ``fresh_due`` asks for fresh labels after a set number of uses all the same.

    Args:
        confidence: of one look at a set that is used once, e.g. 0.95.
        use: number of this look, from 1.
    """
    assert use >= 1, use
    return 1 - (1 - confidence) / (use * (use + 1))


def worn_difference(golden: PairSet, candidate: Floats, champion: Floats, use: int) -> Estimate:
    """Candidate minus champion on the golden pairs, at the level of this use.

    The interval is normal around the value, with the standard error over resampled documents: a thousand resamples have
    no percentile for the tail of the tenth use, which is 1 in 4,400.
    """
    level = level_of_use(golden.confidence, use)
    change = golden.right(candidate) - golden.right(champion)
    half = float(ndtri((1 + level) / 2)) * float(np.nanstd(golden.bootstrap.means(change)))
    value = float(change.mean())
    return Estimate(value=value, low=value - half, high=value + half, level=level, count=len(change))


def fresh_due(
    uses: int,
    *,
    allowed: int,
    difference: Estimate | None = None,
    documents: int | None = None,
    margin: float | None = None,
    confidence: float = 0.95,
) -> str | None:
    """Why fresh golden labels are due, in words; None when they are not.

    Args:
        uses: how often the set was used.
        allowed: ``gate.golden_uses``.
        difference: the latest difference measured on it, at the level of its own use; None: not measured.
        documents: of the golden set, at that measurement.
        margin: loss that the comparison on the golden set may miss; with it, the width of the next interval is judged.
        confidence: of the first use.
    """
    needed = None
    reasons = [f"the golden set was used {uses:,} times; gate.golden_uses is {allowed:,}"] if uses >= allowed else []
    if difference is not None and documents and margin:
        error = (difference.high - difference.low) / 2 / _normal(difference.level)
        following = level_of_use(confidence, uses + 1)
        half, fresh = (_normal(level) * error for level in (following, level_of_use(confidence, 1)))
        needed = math.ceil(documents * (fresh / margin) ** 2 - 1e-9) if math.isfinite(fresh) else None
        # Nan compares as false: a width that is unknown is too wide.
        if not half <= margin:
            reasons.append(
                f"at the next use (level {following:.4f}) the interval reaches {half:.3f} to either side, more than "
                f"the margin of {margin:g}"
            )
    if not reasons:
        return None
    groups = "of fresh groups" if needed is None else f"of {needed:,} fresh groups or more"
    return f"Fresh golden labels are due: {'; '.join(reasons)}. Add a file {groups}: rewardloop golden add FILE"


def _normal(level: float) -> float:
    return float(ndtri((1 + level) / 2))
