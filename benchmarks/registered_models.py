"""Registered versions without training: random models, registered as the pipeline registers them.

In: a folder and a base. Out: a tracking database, a store with a history, and versions that can be served.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rewardloop.cli.environment import set_defaults
from rewardloop.config import TrainingSettings
from rewardloop.modeling.reward_model import build_reward_model, save_reward_model
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.registration import register
from rewardloop.tracking.tags import BLESSED, MANIFEST

ORGANIZATION = "benchmark"


@dataclass(frozen=True)
class Registered:
    """Where the versions are; the first is the champion."""

    folder: Path
    tracking_uri: str
    versions: list[str]

    @property
    def name(self) -> str:
        """Of the registered model."""
        return f"{ORGANIZATION}-reward"

    @property
    def history(self) -> History:
        """Who is champion."""
        return History(Storage.open(str(self.folder / "store")), self.name)

    def configuration(self, **serving: object) -> Path:
        """A configuration that serves them, with ``serving`` settings."""
        tree = {
            "organization": ORGANIZATION,
            "home": str(self.folder / "home"),
            "store": {"url": str(self.folder / "store")},
            "tracking": {"uri": self.tracking_uri},
            "model": {"base": "random:tiny"},
            "serving": serving,
        }
        path = self.folder / "rewardloop.yaml"
        path.write_text(json.dumps(tree), encoding="utf-8")
        return path

    def make_champion(self, version: str) -> None:
        """Write the next record of the history."""
        now = self.history.champion()
        before = now.version if now else None
        self.history.append(
            "promote", version, expected=before, why="benchmark", threshold=0.0, compared_with=str(before)
        )


def register_random(folder: Path, base: str, texts: Sequence[str], *, count: int, max_length: int) -> Registered:
    """Register ``count`` models with random heads on ``base``; ``texts`` become the fixture."""
    set_defaults()
    os.environ["REWARDLOOP_HOME"] = str(folder / "home")
    tracking_uri = connect(None, folder / "home", 20)
    versions = []
    for seed in range(count):
        directory = folder / f"candidate-{seed}" / "reward_model"
        model, tokenizer = build_reward_model(base, TrainingSettings(seed=seed))
        save_reward_model(model, tokenizer, directory / "model")
        scoring = {
            "format": 1,
            "template": "plain",
            "max_length": max_length,
            "truncation_side": "left",
            "precision": "float32",
            "scale": {"raw": [-1.0, 1.0], "public": [-1.0, 1.0]},
            "threshold": 0.0,
            "block_threshold": None,
        }
        _write(directory / "scoring.json", scoring)
        prompts: list[list[dict[str, str]]] = [[] for _ in texts]
        scores = RewardScorer.load(directory).score(prompts, list(texts))
        _write(directory / "parity.json", {"prompts": prompts, "responses": list(texts), "scores": scores.tolist()})
        (directory / "scoring").mkdir()
        for source in files("rewardloop.modeling.scoring").iterdir():
            if source.name.endswith(".py"):
                (directory / "scoring" / source.name).write_bytes(source.read_bytes())
        same = {MANIFEST: write_manifest(directory)}
        done = register(
            directory,
            name=f"{ORGANIZATION}-reward",
            same=same,
            tags={BLESSED: "true", "threshold": "0.0"},
            tracking_uri=tracking_uri,
            parent_run_id=None,
        )
        versions.append(done.version)
    found = Registered(folder, tracking_uri, versions)
    found.make_champion(versions[0])
    return found


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
