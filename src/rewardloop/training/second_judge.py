"""A second judge of a policy: a reward model of its own, from the base, on feedback that the candidate did without.

In: the preferences and the settings of the candidate's training. Out: a scorer; it is trained once per preferences and
settings and kept in the work folder. Never the champion goes on here: it has seen both halves.
"""

import json
from pathlib import Path
from typing import Any

from rewardloop.config import ModelSettings
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.fit import FitJob, fit
from rewardloop.training.halves import leave_half
from rewardloop.training.work import work_digest


def train_judge(
    preferences: Path, model: dict[str, Any], training: dict[str, Any], cache: Path, code_version: str
) -> RewardScorer:
    """Train, or take from an earlier call.

    Args:
        preferences: output of ``build_preferences``.
        model: the section ``model`` as JSON.
        training: the section ``training`` as JSON.
        cache: where converted bases are kept; the work folder lies beside it.
        code_version: fingerprint of the code.
    """
    files = [preferences / "items.parquet", preferences / "pairs.parquet"]
    work = cache.parent / "work" / "second_judge" / work_digest(files, model, training, code_version)
    done = work / "reward_model"
    if not (done / "scoring.json").is_file():
        leave_half(preferences, work / "preferences", "judge")
        fit(
            FitJob(
                preferences=str(work / "preferences"),
                start=prepare_base(ModelSettings.model_validate(model).base, cache),
                settings=json.dumps({"model": model, "training": training}),
                checkpoints=str(work / "training"),
                output=str(done),
            )
        )
        CheckpointFolder(work / "training").clear()
    return RewardScorer.load(done)
