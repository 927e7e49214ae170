"""The public score scale: that of version 1, so that a client's own cut-off outlives a new version.

Version 1 is standardized on its validation answers. A later version's raw scores are mapped so that on the frozen
anchors they have the quantiles that version 1's public scores had. ``modeling.scoring.public_score`` applies the map.
"""

import numpy as np

from rewardloop.bootstrap import Floats
from rewardloop.errors import BadInputError

_QUANTILES = 33
Scale = dict[str, list[float]]


def first_scale(mean: float, spread: float) -> Scale:
    """Mean 0 and spread 1 on the validation answers: a straight line through two knots."""
    return {"raw": [mean, mean + spread], "public": [0.0, 1.0]}


def anchored_scale(anchors_raw: Floats, reference: Floats, fallback: Scale) -> Scale:
    """Knots that map the candidate's quantiles on the anchors to the reference's, both strictly increasing.

    Args:
        anchors_raw: the candidate's raw scores of the anchors; NaN where it cannot score one.
        reference: version 1's public scores of the same anchors, same shape.
        fallback: used where the anchors do not tell scores apart (fewer than two distinct values).

    Raises:
        BadInputError: the store has another number of anchors than version 1 was scored on.
    """
    if len(anchors_raw) != len(reference):
        raise BadInputError(
            f"store: it has {len(anchors_raw):,} anchors, but the champion's public scale was fitted on "
            f"{len(reference):,}; use the store the champion was trained from, or register under another organization"
        )
    known = ~(np.isnan(anchors_raw) | np.isnan(reference))
    if not known.any():
        return fallback
    # Half a step from both ends: the outermost order statistics are noise.
    shares = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    raw, public = np.quantile(anchors_raw[known], shares), np.quantile(reference[known], shares)
    kept = [0]
    for index in range(1, _QUANTILES):
        if raw[index] > raw[kept[-1]] and public[index] > public[kept[-1]]:
            kept.append(index)
    if len(kept) < 2:
        return fallback
    return {"raw": raw[kept].tolist(), "public": public[kept].tolist()}
