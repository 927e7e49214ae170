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

import numpy as np
import polars as pl

from rewardloop.config import ModelSettings, TrainingSettings
from rewardloop.evidence import BeforeAfter, TrainingEvidence, WarmStartEvidence
from rewardloop.modeling.reward_model import encoding_for, freeze_template, tokenizer_digest
from rewardloop.modeling.scoring import Floats, RewardScorer
from rewardloop.training.fit import FitJob, fit
from rewardloop.training.replay import Selection, is_new, select_groups


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
    pairs = pl.read_parquet(Path(job.preferences) / "pairs.parquet")
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
    check = _HeldOut.of(items, pairs, champion.batches, settings)
    before = check.scores(champion.directory)
    slower = settings.learning_rate * settings.warm_start.learning_rate_scale
    warm = replace(
        job,
        start=str(champion.directory / "model"),
        settings=json.dumps(sections | {"training": sections["training"] | {"learning_rate": slower}}),
        groups=[*chosen.new, *chosen.replayed],
        may_stay=True,
    )
    evidence = fit(warm)
    after = check.scores(Path(job.output))
    report = WarmStartEvidence(
        champion=champion.name,
        used=True,
        reason="",
        new_groups=len(chosen.new),
        replayed_groups=len(chosen.replayed),
        validation=check.compare("validation", before, after, old=False),
        old_validation=check.compare("validation", before, after, old=True),
        old_test=check.compare("test", before, after, old=True),
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
    tokenizer = AutoTokenizer.from_pretrained(job.start)
    freeze_template(tokenizer)
    theirs = AutoTokenizer.from_pretrained(champion.directory / "model")
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


@dataclass(frozen=True)
class _HeldOut:
    """A sample of held-out answers and the decided pairs among them."""

    items: pl.DataFrame
    pairs: pl.DataFrame
    total: int

    @classmethod
    def of(
        cls, items: pl.DataFrame, pairs: pl.DataFrame, known: Collection[str], settings: TrainingSettings
    ) -> "_HeldOut":
        drawn = np.random.default_rng(settings.seed)
        parts = []
        for split in ("validation", "test"):
            part = items.filter(split=split)
            # Whole groups where there are groups: pairs are inside them.
            groups = part["group"].unique().sort().to_numpy()
            size = len(part) / max(1, len(groups))
            wanted = max(1, int(settings.warm_start.check_items / size))
            if (groups < 0).any():
                rows = drawn.permutation(len(part))[: settings.warm_start.check_items]
                parts.append(part[np.sort(rows)])
            else:
                parts.append(part.filter(pl.col("group").is_in(drawn.permutation(groups)[:wanted].tolist())))
        chosen = pl.concat(parts).with_columns((~is_new(known)).alias("old"))
        inside = pairs.filter(
            pl.col("split").is_in(["validation", "test"])
            & (pl.col("p") != 0.5)
            & pl.col("a").is_in(chosen["item"].implode())
            & pl.col("b").is_in(chosen["item"].implode())
        )
        return cls(chosen, inside, len(items))

    def scores(self, directory: Path) -> Floats:
        """Raw scores by item of the reward model in ``directory``; NaN elsewhere."""
        found = np.full(self.total, np.nan)
        scorer = RewardScorer.load(directory)
        found[self.items["item"].to_numpy()] = scorer.raw_scores(
            self.items["prompt"].to_list(), self.items["response"].to_list()
        )
        return found

    def compare(self, split: str, before: Floats, after: Floats, *, old: bool) -> BeforeAfter | None:
        """Accuracy of both on the same pairs of a split; None where there is none."""
        known = self.items.filter(pl.col("old"))["item"] if old else self.items["item"]
        pairs = self.pairs.filter(
            (pl.col("split") == split) & pl.col("a").is_in(known.implode()) & pl.col("b").is_in(known.implode())
        )
        a, b, p = (pairs[name].to_numpy() for name in ("a", "b", "p"))
        scored = ~np.isnan(before[a] + before[b] + after[a] + after[b])
        if not scored.any():
            return None
        first, second = (
            float(np.mean(np.where(s[a] == s[b], 0.5, (s[a] > s[b]) == (p > 0.5))[scored])) for s in (before, after)
        )
        return BeforeAfter(pairs=int(scored.sum()), before=first, after=second)
