"""Train score == serve score: texts with the scores they must get wherever the model is loaded.

In: a loaded ``RewardScorer`` and the fixture saved with it. Out: the largest difference, or an error when a copy of the
model scores differently than the one that was trained or certified.
"""

import json
from pathlib import Path

import numpy as np

from rewardloop.errors import RewardloopError
from rewardloop.modeling.scoring import Floats, RewardScorer

TOLERANCE = 1e-5
"""Relative to a score's size where that is above 1; merging LoRA and padding move float32 scores by about 1e-6."""


def check_parity(scorer: RewardScorer, fixture: Path, *, where: str) -> float:
    """Score the fixture's texts again and return the largest difference.

    The fixture holds ``raw_scores`` (after training) or public ``scores`` (once the scale is known).

    Raises:
        RewardloopError: a score differs by more than ``TOLERANCE``; ``where`` says which copy was checked.
    """
    content = json.loads(fixture.read_text(encoding="utf-8"))
    raw = scorer.raw_scores(content["prompts"], content["responses"])
    scores: Floats = scorer.public(raw) if "scores" in content else raw
    wanted = np.asarray(content.get("scores", content.get("raw_scores")), dtype=float)
    difference = np.abs(scores - wanted)
    worst = int(np.argmax(np.nan_to_num(difference, nan=np.inf))) if len(difference) else 0
    if len(difference) and not difference[worst] <= TOLERANCE * max(1.0, abs(wanted[worst])):
        raise RewardloopError(
            f"{where}: text {worst} of {fixture.name} scores {scores[worst]:.6f}; expected {wanted[worst]:.6f}. "
            "The model or the way texts are encoded has changed since it was saved."
        )
    return float(difference.max(initial=0.0))
