"""Raw scores on the public scale, and what is decided there: the one map that evaluation fits and serving applies."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def public_score(raw: Floats, scale: Mapping[str, Sequence[float]]) -> Floats:
    """Map raw scores to the public scale.

    ``scale`` holds ``raw`` and ``public`` knots, both strictly increasing: PCHIP between them, straight lines beyond
    the outermost two (so the map is strictly increasing everywhere). Two knots are a straight line.
    """
    from scipy.interpolate import PchipInterpolator

    x, y = np.asarray(scale["raw"], dtype=float), np.asarray(scale["public"], dtype=float)
    raw = np.asarray(raw, dtype=float)
    result = np.asarray(np.interp(raw, x, y) if len(x) == 2 else PchipInterpolator(x, y)(np.clip(raw, x[0], x[-1])))
    low, high = raw < x[0], raw > x[-1]
    result[low] = y[0] + (raw[low] - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
    result[high] = y[-1] + (raw[high] - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.where(np.isnan(raw), np.nan, result)


def decisions(scores: Floats, threshold: float, block_threshold: float | None) -> NDArray[np.str_]:
    """ "accept", "review" or "block" per public score.

    Accepted is a finite score that reaches ``threshold``. With a block threshold the rest is blocked below that and
    for review otherwise, what could not be scored too: the promise about blocked answers does not cover it. Without a
    block threshold the rest is blocked.
    """
    scores = np.asarray(scores, dtype=float)
    accepted = np.isfinite(scores) & (scores >= threshold)
    blocked = ~accepted if block_threshold is None else np.isfinite(scores) & (scores < block_threshold)
    return np.where(accepted, "accept", np.where(blocked, "block", "review"))
