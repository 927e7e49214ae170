"""Train a reward model on the preferences of the training split.

In: items and pairs. Out: ``model/`` (float32 safetensors and tokenizer), ``scoring.json`` (how texts become scores; its
scale and threshold are completed by the evaluation) and ``parity.json`` (texts with the scores they must always get).
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock
from tqdm import tqdm

from rewardloop.config import ModelSettings, TrainingSettings
from rewardloop.evidence import TrainingEvidence
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.reward_model import build_reward_model, encoding_for, save_reward_model, scoring_module
from rewardloop.modeling.scoring import Encoder, Encoding, RewardScorer
from rewardloop.steps.step_run import step_run
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import encode_groups
from rewardloop.training.reward import RewardTrainer

_FIXTURE_TEXTS = 16


def train_reward_model(*, preferences: Path, settings: str, code_version: str, reward_model: Path) -> None:
    """Train and save one candidate; a killed call continues from its last checkpoint.

    Args:
        preferences: output of ``build_preferences``.
        settings: JSON with the sections ``model`` and ``training``.
        code_version: fingerprint of the code; with the data and the settings it names the checkpoint.
        reward_model: output folder.
    """
    sections = json.loads(settings)
    model_settings = ModelSettings.model_validate(sections["model"])
    training = TrainingSettings.model_validate(sections["training"])
    home = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop"))
    with step_run("train_reward_model", inputs=[preferences], output=reward_model) as run:
        items = pl.read_parquet(preferences / "items.parquet")
        pairs = pl.read_parquet(preferences / "pairs.parquet")
        model, tokenizer = build_reward_model(prepare_base(model_settings.base, home / "base-models"), training)
        has_prompts = bool(items["prompt"].list.len().max())
        encoding = encoding_for(tokenizer, model_settings, has_prompts=has_prompts)
        encoder = Encoder(tokenizer, encoding)
        train, validation = (
            encode_groups(items.filter(split=split), pairs.filter(split=split), encoder)
            for split in ("train", "validation")
        )
        trainer = RewardTrainer(
            model, tokenizer.pad_token_id or 0, training, train=train.groups, validation=validation.groups
        )
        (home / "work" / "train_reward_model").mkdir(parents=True, exist_ok=True)
        work = home / "work" / "train_reward_model" / _digest(preferences, sections, code_version)
        checkpoints = CheckpointFolder(work)
        # Two runs of the same corpus and settings would write the same checkpoint.
        lock = FileLock(work.with_suffix(".lock"))
        with lock, tqdm(total=trainer.steps, desc="training", unit="step", mininterval=1) as bar:

            def show(step: int, loss: float) -> None:
                bar.update(step - bar.n)
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

            result = trainer.run(checkpoints, each_step=show)
        total = sum(value.numel() for value in model.parameters())
        evidence = TrainingEvidence(
            base=model_settings.base,
            method=_method(training),
            parameters=total,
            trained_parameters=sum(value.numel() for value in trainer.weights.values()),
            groups=len(trainer.train),
            responses=sum(len(group.sequences) for group in trainer.train),
            pairs=sum(len(group.a) for group in trainer.train),
            tokens_per_second=result.tokens / max(result.seconds, 1e-9),
            truncated_prompts=train.truncated_prompts + validation.truncated_prompts,
            dropped_responses=train.dropped_responses + validation.dropped_responses,
            seed=training.seed,
            **vars(result),
        )
        # Merging LoRA changes the last bits, so the fixture is scored by the model as it is saved.
        scored = scoring_module(model.merge_and_unload()) if hasattr(model, "merge_and_unload") else model
        save_reward_model(scored, tokenizer, reward_model / "model")
        scoring = _scoring(encoding)
        (reward_model / "scoring.json").write_text(json.dumps(scoring, indent=1), encoding="utf-8")
        _write_fixture(RewardScorer(scored.float(), tokenizer, scoring), items, reward_model / "parity.json")
        run.write("training", evidence)
        last = result.validation[-1] if result.validation else None
        run.produced = (
            f"{evidence.groups:,} groups in {result.steps:,} steps, {evidence.tokens_per_second:,.0f} tokens/s"
            + (f", validation accuracy {last.accuracy:.3f}" if last else "")
        )
        run.log(*_for_mlflow(evidence))
        checkpoints.clear()


def _for_mlflow(evidence: TrainingEvidence) -> tuple[dict[str, float], dict[str, list[tuple[int, float]]]]:
    names = ("seconds", "tokens_per_second", "steps", "best_step", "groups", "pairs", "trained_parameters")
    curves = {
        f"{kind}_{name}": [(point.step, getattr(point, name)) for point in points]
        for kind, points in (("train", evidence.curve), ("validation", evidence.validation))
        for name in ("loss", "accuracy")
    }
    return {name: float(getattr(evidence, name)) for name in names}, curves


def _digest(preferences: Path, sections: dict[str, Any], code_version: str) -> str:
    total = hashlib.sha256(json.dumps([sections, code_version], sort_keys=True).encode())
    for name in ("items.parquet", "pairs.parquet"):
        total.update((preferences / name).read_bytes())
    return total.hexdigest()


def _method(training: TrainingSettings) -> str:
    if training.method == "top_layers":
        return f"top {training.top_layers} layers"
    return f"LoRA, rank {training.lora_rank}" if training.method == "lora" else "all weights"


def _scoring(encoding: Encoding) -> dict[str, Any]:
    return {
        "format": 1,
        "template": encoding.template,
        "max_length": encoding.max_length,
        "truncation_side": encoding.truncation_side,
        "precision": "float32",
        "scale": {"raw": [0.0, 1.0], "public": [0.0, 1.0]},
        "threshold": None,
    }


def _write_fixture(scorer: RewardScorer, items: pl.DataFrame, path: Path) -> None:
    chosen = items.filter(split="validation").head(_FIXTURE_TEXTS)
    prompts, responses = chosen["prompt"].to_list(), chosen["response"].to_list()
    scores = scorer.raw_scores(prompts, responses)
    known = [i for i, score in enumerate(scores) if score == score]
    fixture = {
        "prompts": [prompts[i] for i in known],
        "responses": [responses[i] for i in known],
        "raw_scores": [float(scores[i]) for i in known],
    }
    path.write_text(json.dumps(fixture, indent=1, ensure_ascii=False), encoding="utf-8")
