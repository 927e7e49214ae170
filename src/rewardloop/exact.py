"""Exact intervals of shares, and Holm's correction: what several parts of the project judge by.

In: counts, or p-values. Out: ``Estimate`` of one share, the ends for many, or corrected p-values.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from rewardloop.evidence import Estimate

Floats = NDArray[np.float64]


def exact_share(hits: int, count: int, confidence: float, unit: str) -> Estimate | None:
    """A share of ``count`` independent things with its exact interval; None of nothing."""
    if not count:
        return None
    ends = exact_interval(np.array([hits / count]), np.array([float(count)]), confidence)
    low, high = (float(end[0]) for end in ends)
    return Estimate(value=hits / count, low=low, high=high, level=confidence, count=count, unit=unit)


def exact_share_of(hits: NDArray[np.bool_], confidence: float, unit: str) -> Estimate | None:
    """As ``exact_share``, of one truth value per thing."""
    return exact_share(int(hits.sum()), len(hits), confidence, unit)


def exact_interval(share: Floats, count: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """The interval of Clopper and Pearson (1934), through the beta distribution, so that ties may count half.

    Args:
        share, count: shape (n,), share of successes among so many independent trials; NaN where there is none.
        confidence: of each interval.
    """
    edge, k = (1 - confidence) / 2, share * count
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, betaincinv(np.maximum(k, 1e-12), count - k + 1, edge), 0.0)
        high = np.where(k < count, betaincinv(k + 1, np.maximum(count - k, 1e-12), 1 - edge), 1.0)
    unknown = ~(count > 0)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """p-values after Holm's step-down correction (Holm 1979), in the given order; shape (n,).

    The i-th smallest of n is multiplied by n - i + 1; none becomes smaller than one before it, nor larger than 1.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
