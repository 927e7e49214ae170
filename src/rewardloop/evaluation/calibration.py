"""Do the score differences mean what they say? Temperature, tie band, calibration error and Brier score of preferences.

The predicted probability that a is better than b is sigmoid((score a - score b) / T), with T fitted on validation pairs
(temperature scaling, Guo et al. 2017). It is held against the share of labelers who say so, on all test pairs: a model
that is sure where people are divided is as wrong as one that doubts where they agree.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from rewardloop.bootstrap import Floats
from rewardloop.evidence import ReliabilityBin

_BINS = 15
_UNDECIDED = 0.1
"""People whose shares differ from one half by less than this leave a pair undecided."""
_ROUNDING = 1e-9
_TEMPERATURES = (1e-3, 1e3)


def fit_temperature(difference: Floats, p: Floats) -> float:
    """T that minimizes the cross-entropy of sigmoid(difference / T) against p, searched on a log scale.

    Args:
        difference: score a - score b, shape (pairs,).
        p: labelers' probability that a is better, shape (pairs,).
    """

    def loss(log_temperature: float) -> float:
        z = difference / np.exp(log_temperature)
        # log(1 + exp(z)) - p z is the cross-entropy, without overflow.
        return float(np.mean(np.logaddexp(0, z) - p * z))

    if not np.any(difference):
        return 1.0
    return float(np.exp(minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded").x))


def predicted(difference: Floats, temperature: float) -> Floats:
    """P(a is better than b), shape (pairs,)."""
    return np.asarray(expit(difference / temperature))


def tie_band(difference: Floats, p: Floats) -> float | None:
    """The largest difference of scores that says nothing: as many pairs are within it as people leave undecided.

    Args:
        difference: score a - score b on validation pairs, shape (pairs,).
        p: labelers' probability that a is better, shape (pairs,).

    Returns:
        the quantile of |difference| at the share of undecided pairs; None where people decided every pair.
    """
    # 3 of 5 labelers lean one way: 0.6 - 0.5 must not come out below 0.1.
    undecided = float(np.mean(np.abs(p - 0.5) < _UNDECIDED - _ROUNDING))
    return float(np.quantile(np.abs(difference), undecided)) if undecided else None


def reliability(predictions: Floats, shares: Floats) -> list[ReliabilityBin]:
    """Predicted against observed in bins of equal size, each pair turned so that the prediction is at least one half.

    Args:
        predictions: P(a is better), shape (pairs,).
        shares: labelers' share for a, shape (pairs,).
    """
    turned = predictions < 0.5
    confidence = np.where(turned, 1 - predictions, predictions)
    share = np.where(turned, 1 - shares, shares)
    order = np.argsort(confidence, kind="stable")
    return [
        ReliabilityBin(predicted=float(confidence[part].mean()), observed=float(share[part].mean()), pairs=len(part))
        for part in np.array_split(order, min(_BINS, len(order)))
    ]


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Mean |predicted - observed| over bins, weighted by their pairs (Guo et al. 2017, equation 3)."""
    total = sum(one.pairs for one in bins)
    return sum(one.pairs * abs(one.predicted - one.observed) for one in bins) / total


def brier(predictions: Floats, shares: Floats) -> float:
    """Mean squared difference between prediction and share (Brier 1950, for one of two classes)."""
    return float(np.mean((predictions - shares) ** 2))
