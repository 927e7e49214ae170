"""Do the score differences mean what they say? Temperature, calibration error and Brier score of preferences.

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
