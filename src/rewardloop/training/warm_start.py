"""A retrain that goes on from the champion, is checked against it, and gives way to the base where that is worse.

In: the champion's files and the batches it knows. Out: the evidence of the training that was kept, and what happened to
the warm start. Nothing is decided on the test split; it is scored before and after for the report.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from rewardloop.config import ModelSettings, TrainingSettings
from rewardloop.evidence import TrainingEvidence, WarmStartEvidence
from rewardloop.modeling.reward_model import encoding_for, freeze_template, tokenizer_digest
from rewardloop.training.fit import FitJob, fit
from rewardloop.training.replay import Selection, select_groups


@dataclass(frozen=True)
class Champion:
    """The version to go on from."""

    name: str
    """``models:/NAME/VERSION``."""
    directory: Path
    batches: Collection[str]
    """Digests of the batches in its corpus."""


def fit_from_champion(
    job: FitJob, champion: Champion, batch_times: Mapping[str, datetime], fallback: Path
) -> TrainingEvidence:
    """Train on from the champion; from ``job.start`` on everything where that is impossible or worse.

    Args:
        job: the training from the base.
        champion: what to go on from.
        batch_times: when each batch was ingested.
        fallback: folder of the checkpoints of the training from the base.
    """
    sections = json.loads(job.settings)
    settings = TrainingSettings.model_validate(sections["training"])
    items = pl.read_parquet(Path(job.preferences) / "items.parquet")
    reason = _obstacle(job, ModelSettings.model_validate(sections["model"]), champion, items)
    chosen = select_groups(
        items.filter(split="train"),
        known_batches=champion.batches,
        batch_times=batch_times,
        settings=settings.warm_start,
        seed=settings.seed,
    )
    reason = reason or _nothing_new(chosen, items)
    if reason:
        return _from_base(job, fallback, WarmStartEvidence(champion=champion.name, used=False, reason=reason))
    slower = settings.learning_rate * settings.warm_start.learning_rate_scale
    warm = replace(
        job,
        start=str(champion.directory / "model"),
        settings=json.dumps(sections | {"training": sections["training"] | {"learning_rate": slower}}),
        groups=[*chosen.new, *chosen.replayed],
        known_batches=sorted(champion.batches),
    )
    evidence = fit(warm)
    report = WarmStartEvidence(
        champion=champion.name,
        used=True,
        reason="",
        new_groups=len(chosen.new),
        replayed_groups=len(chosen.replayed),
        **evidence.held_out,
        seconds=evidence.seconds,
    )
    reason = _worse(report, settings.warm_start.tolerance)
    if reason:
        return _from_base(job, fallback, report.model_copy(update={"used": False, "reason": reason}))
    return evidence.model_copy(update={"warm_start": report})


def _from_base(job: FitJob, checkpoints: Path, report: WarmStartEvidence) -> TrainingEvidence:
    print(f"trained from the base: {report.reason}", flush=True)
    evidence = fit(replace(job, checkpoints=str(checkpoints)))
    return evidence.model_copy(update={"warm_start": report})


def _obstacle(job: FitJob, model: ModelSettings, champion: Champion, items: pl.DataFrame) -> str:
    """Why the champion's weights cannot be gone on from; empty when they can."""
    from transformers import AutoTokenizer

    scoring: dict[str, Any] = json.loads((champion.directory / "scoring.json").read_text(encoding="utf-8"))
    if scoring.get("base") != model.base:
        return f"{champion.name} was trained from {scoring.get('base')!r}, model.base is {model.base!r}"
    tokenizer = AutoTokenizer.from_pretrained(job.start, trust_remote_code=False)
    freeze_template(tokenizer)
    theirs = AutoTokenizer.from_pretrained(champion.directory / "model", trust_remote_code=False)
    # The padding token was chosen when the champion was built, and is no part of what a text becomes.
    tokenizer.pad_token = theirs.pad_token
    if tokenizer_digest(tokenizer) != scoring.get("tokenizer"):
        return f"the tokenizer of {model.base!r} has changed since {champion.name} was trained"
    ours = encoding_for(tokenizer, model, has_prompts=bool(items["prompt"].list.len().max()))
    if ours.template != scoring["template"]:
        return (
            f"{champion.name} reads texts with the {scoring['template']} template, this configuration {ours.template}"
        )
    return ""


def _nothing_new(chosen: Selection, items: pl.DataFrame) -> str:
    if not chosen.new:
        return "no batch has come since the champion that brings groups to train on"
    if len(chosen.new) == items.filter((pl.col("split") == "train") & (pl.col("group") >= 0))["group"].n_unique():
        return "the champion knows none of the batches"
    return ""


def _worse(report: WarmStartEvidence, tolerance: float) -> str:
    for what, found in (("held-out", report.validation), ("earlier held-out", report.old_validation)):
        if found is not None and found.after < found.before - tolerance:
            return (
                f"going on from {report.champion} brought the accuracy on {what} pairs from {found.before:.3f} to "
                f"{found.after:.3f}, more than training.warm_start.tolerance ({tolerance:g}) below"
            )
    return ""
