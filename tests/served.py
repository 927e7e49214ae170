"""A folder of a tiny random reward model, as ``train_reward_model`` leaves it, for tests of serving."""

import json
from pathlib import Path

from rewardloop.config import TrainingSettings
from rewardloop.modeling.reward_model import build_reward_model, save_reward_model
from rewardloop.modeling.scoring import RewardScorer
from tests.registered import PROMPTS, RESPONSES, write

MAX_LENGTH = 128
"""The tokenizer is byte-level: a response of more bytes cannot be scored."""


def write_reward_model(folder: Path, base: str, *, threshold: float | None = None) -> RewardScorer:
    """Write ``model/``, ``scoring.json`` and ``parity.json``; returns the model loaded from there."""
    model, tokenizer = build_reward_model(base, TrainingSettings(seed=0))
    save_reward_model(model, tokenizer, folder / "model")
    scoring = {
        "format": 1,
        "template": "plain",
        "max_length": MAX_LENGTH,
        "truncation_side": "left",
        "precision": "float32",
        "scale": {"raw": [-1.0, 1.0], "public": [-3.0, 5.0]},
        "threshold": threshold,
    }
    write(folder / "scoring.json", scoring)
    scorer = RewardScorer.load(folder)
    raw = scorer.raw_scores(PROMPTS, RESPONSES).tolist()
    write(folder / "parity.json", {"prompts": PROMPTS, "responses": RESPONSES, "raw_scores": raw})
    return scorer


def spoil_fixture(folder: Path) -> None:
    """Let the fixture expect another score."""
    fixture = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    fixture["raw_scores"][0] += 1
    write(folder / "parity.json", fixture)
