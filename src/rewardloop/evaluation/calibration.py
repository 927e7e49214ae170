"""Do the score differences mean what they say? Temperature, tie band, calibration error and Brier score of preferences.

In: a split's pairs, ties and close ones too. Out: how sure the model is of each, and how far that is from people.

The predicted probability that a is better than b is sigmoid((score a - score b) / T), with T fitted on validation pairs
(temperature scaling, Guo et al. 2017). It is held against the share of labelers who say so, on all test pairs: a model
that is sure where people are divided is as wrong as one that doubts where they agree.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import minimize_scalar
from scipy.special import expit

from rewardloop.bootstrap import DocumentBootstrap, Floats, Ints
from rewardloop.config import EvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.slices import input_slices
from rewardloop.evidence import CalibrationSlice, ReliabilityBin

_BINS = 15
_UNDECIDED = 0.1
"""People whose shares differ from one half by less than this leave a pair undecided."""
_ROUNDING = 1e-9
_TEMPERATURES = (1e-3, 1e3)


@dataclass(frozen=True)
class SoftPairs:
    """All pairs of one split with two scored answers; close pairs and ties too: they say what a difference means."""

    a: Ints
    b: Ints
    """Positions of the answers, shape (pairs,)."""
    difference: Floats
    """Score a - score b, shape (pairs,)."""
    p: Floats
    """Labelers' probability that a is better, shape (pairs,)."""

    @classmethod
    def of(cls, pairs: pl.DataFrame, scores: Floats, split: str) -> "SoftPairs":
        """The pairs of ``split``.

        Args:
            pairs: the ``PAIRS`` table.
            scores: one per item, NaN for unscored ones.
            split: its name.

        Raises:
            BadInputError: the split has no pair with two scored answers.
        """
        chosen = pairs.filter(split=split)
        a, b = (chosen[side].to_numpy().astype(np.int64) for side in "ab")
        difference = scores[a] - scores[b]
        known = ~np.isnan(difference)
        if not known.any():
            raise BadInputError(f"evaluation: the {split} split has no pair with two scored answers; add feedback")
        return cls(a[known], b[known], difference[known], chosen["p"].to_numpy()[known])


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
    confidence, share = _turned(predictions, shares)
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


def calibration_slices(
    items: pl.DataFrame, test: SoftPairs, predictions: Floats, settings: EvaluationSettings
) -> list[CalibrationSlice]:
    """How far the model is from people on each part of the test pairs, which one temperature for all cannot show.

    The signed mean has no upward bias on small slices, as a calibration error of bins has. Slices by distance in rating
    are left out: they are chosen by what people said, and people who rate two answers nearly alike disagree with any
    model that is rightly sure.

    Args:
        items: the ``ITEMS`` table.
        test: pairs of ``items``.
        predictions: P(a is better), shape (pairs,).
        settings: ``bootstrap_samples``, ``seed`` and ``confidence``.
    """
    confidence, share = _turned(predictions, test.p)
    documents = items["document"].rank("dense").to_numpy().astype(np.int64)
    lines = []
    for name, mask in input_slices(items, test.a, test.b):
        if not mask.any() or mask.all():
            continue
        bootstrap = DocumentBootstrap(
            documents[test.a[mask]], documents[test.b[mask]], samples=settings.bootstrap_samples, seed=settings.seed
        )
        excess = bootstrap.estimate(confidence[mask] - share[mask], confidence=settings.confidence)
        predicted_mean = float(confidence[mask].mean())
        lines.append(
            CalibrationSlice(name=name, predicted=predicted_mean, excess=excess, documents=bootstrap.documents)
        )
    return lines


def _turned(predictions: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Prediction and share of each pair for the answer that the model prefers."""
    turned = predictions < 0.5
    return np.where(turned, 1 - predictions, predictions), np.where(turned, 1 - shares, shares)
