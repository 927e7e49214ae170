"""A candidate as the steps leave it, with a real tiny model, for tests of the registry."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rewardloop.config import TrainingSettings
from rewardloop.modeling.reward_model import build_reward_model, save_reward_model, weights_digest
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.steps.register_models import register_models
from tests.run_folders import blessing, evaluation

PROMPTS: list[list[dict[str, str]]] = [[], [], [{"role": "user", "content": "How was the film?"}]]
RESPONSES = ["A quiet film that stays.", "Two hours I will not get back.", "Long."]
THRESHOLD = 0.412


@dataclass(frozen=True)
class Candidate:
    """Folders of one candidate, its store and its tracking database."""

    folder: Path
    tracking_uri: str
    organization: str = "film-reviews"

    @property
    def name(self) -> str:
        return f"{self.organization}-reward"

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    def register(
        self,
        *,
        output: str = "registration",
        corpus: str = "corpus-1",
        store: str | None = None,
        mode: Literal["auto", "approval"] = "auto",
    ) -> Path:
        registration = self.folder / output
        sections = {"threshold": {"alpha": 0.05, "delta": 0.1}, "promotion": {"mode": mode}}
        register_models(
            reward_model=self.folder / "reward_model",
            evaluation=self.folder / "evaluation",
            blessing=self.folder / "blessing",
            store=store or self.store,
            settings=json.dumps({"organization": self.organization, **sections}),
            tracking_uri=self.tracking_uri,
            corpus_digest=corpus,
            config_digest="config-1",
            registration=registration,
        )
        return registration


def make_candidate(
    folder: Path, base: str, tracking_uri: str, *, seed: int = 0, block_threshold: float | None = None
) -> Candidate:
    """Train nothing, score three texts, bless."""
    model, tokenizer = build_reward_model(base, TrainingSettings(seed=seed))
    save_reward_model(model, tokenizer, folder / "reward_model" / "model")
    scoring = {
        "format": 1,
        "template": "plain",
        "max_length": 128,
        "truncation_side": "left",
        "precision": "float32",
        "raw_mean": 0.1,
        "raw_spread": 0.5,
        "scale": {"raw": [-1.0, 1.0], "public": [-3.0, 5.0]},
        "threshold": THRESHOLD,
        "block_threshold": block_threshold,
    }
    scorer = RewardScorer(model, tokenizer, scoring)
    scores = scorer.score(PROMPTS, RESPONSES)
    assert np.isfinite(scores).all()
    parity = {
        "prompts": PROMPTS,
        "responses": RESPONSES,
        "scores": scores.tolist(),
        "allowed": scorer.allowed(scores).tolist(),
    }
    digest = weights_digest(folder / "reward_model" / "model")
    write(folder / "evaluation" / "scoring.json", scoring)
    write(folder / "evaluation" / "parity.json", parity)
    write(folder / "evaluation" / "candidate.json", {"digest": digest})
    write(folder / "evaluation" / "evidence" / "evaluation.json", json.loads(evaluation().model_dump_json()))
    candidate = Candidate(folder, tracking_uri)
    bless(candidate)
    return candidate


def bless(candidate: Candidate, /, **changes: object) -> None:
    """Write the blessing of ``candidate``; ``changes`` replace its fields."""
    digest = weights_digest(candidate.folder / "reward_model" / "model")
    known = {"candidate": digest, "corpus_digest": "corpus-1", "champion": "no champion: first version"}
    verdict = blessing().model_copy(update=known | changes)
    write(candidate.folder / "blessing" / "blessing.json", json.loads(verdict.model_dump_json()))


def write(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
