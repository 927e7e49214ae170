"""Train a reward model on the preferences of the training split, from the base or on from the champion.

In: items and pairs, and the champion's version if there is one. Out: ``model/`` (float32 safetensors and tokenizer),
``scoring.json`` (how texts become scores; its scale and threshold are completed by the evaluation) and ``parity.json``
(texts with the scores they must always get).
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from filelock import FileLock

from rewardloop.config import EXECUTION, ModelSettings, TrainingSettings
from rewardloop.evidence import TrainingEvidence
from rewardloop.feedback.known_batches import known_batches
from rewardloop.feedback.store import FeedbackStore
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.steps.step_run import step_run
from rewardloop.steps.train_jobs import keeping_train_jobs
from rewardloop.tracking.registry import open_version
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.fit import FitJob, fit
from rewardloop.training.halves import leave_half
from rewardloop.training.warm_start import Champion, fit_from_champion
from rewardloop.training.work import work_digest

_FIXTURE_TEXTS = 16


def train_reward_model(
    *,
    preferences: Path,
    store: str,
    settings: str,
    champion: str,
    tracking_uri: str,
    code_version: str,
    reward_model: Path,
) -> None:
    """Train and save one candidate; a killed call continues from its last checkpoint.

    Args:
        preferences: output of ``build_preferences``.
        store: URL of the feedback store, to tell which batches the champion knows.
        settings: JSON with the sections ``model`` and ``training``; ``distributed`` says on how many processes and
            nodes; with ``policy_evaluation`` the candidate leaves half of the feedback to the second judge.
        champion: ``models:/NAME/VERSION`` to go on from, or empty.
        tracking_uri: MLflow's URI, for the champion's files.
        code_version: fingerprint of the code; with the data and the settings it names the checkpoint.
        reward_model: output folder.
    """
    sections = json.loads(settings)
    model_settings = ModelSettings.model_validate(sections["model"])
    training = TrainingSettings.model_validate(sections["training"])
    home = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop"))
    with step_run("train_reward_model", inputs=[preferences], output=reward_model) as run:
        lasting = {name: value for name, value in sections["training"].items() if name not in EXECUTION}
        files = [preferences / "items.parquet", preferences / "pairs.parquet"]
        digest = work_digest(files, sections["model"], lasting, "policy_evaluation" in sections, champion, code_version)
        work = home / "work" / "train_reward_model" / digest
        work.parent.mkdir(parents=True, exist_ok=True)
        if "policy_evaluation" in sections:
            leave_half(preferences, work / "preferences", "candidate")
            preferences = work / "preferences"
        job = FitJob(
            preferences=str(preferences),
            start=prepare_base(model_settings.base, home / "base-models"),
            settings=settings,
            checkpoints=str(work / "training"),
            output=str(reward_model),
        )
        # Two runs of the same corpus and settings would write the same checkpoint.
        with FileLock(work.with_suffix(".lock")), keeping_train_jobs(run, reward_model):
            if champion and training.warm_start.enabled:
                times = {batch.digest: batch.ingested_at for batch in FeedbackStore.open(store).batches()}
                with _files(champion, tracking_uri, store) as known:
                    evidence = fit_from_champion(job, known, times, fallback=work / "from-base")
            else:
                evidence = fit(job)
            run.write("training", evidence)
            _write_fixture(RewardScorer.load(reward_model), preferences, reward_model / "parity.json")
            run.produced = _in_words(evidence)
            run.log(*_for_mlflow(evidence))
            for name in ("training", "from-base"):
                CheckpointFolder(work / name).clear()


@contextmanager
def _files(champion: str, tracking_uri: str, store: str) -> Iterator[Champion]:
    with open_version(champion, tracking_uri) as (directory, tags):
        yield Champion(champion, directory, set(known_batches(tags, store)))


def _in_words(evidence: TrainingEvidence) -> str:
    warm, last = evidence.warm_start, evidence.validation[-1] if evidence.validation else None
    start = f"on from {warm.champion.removeprefix('models:/')}, " if warm is not None and warm.used else ""
    return (
        f"{start}{evidence.groups:,} groups in {evidence.steps:,} steps, {evidence.tokens_per_second:,.0f} tokens/s"
        + (f", validation accuracy {last.accuracy:.3f}" if last else "")
    )


def _for_mlflow(evidence: TrainingEvidence) -> tuple[dict[str, float], dict[str, list[tuple[int, float]]]]:
    names = (
        "seconds", "tokens_per_second", "padding_share", "utilization", "peak_memory_bytes", "steps", "best_step",
        "groups", "pairs", "trained_parameters", "truncated_prompts", "dropped_responses",
    )  # fmt: skip
    curves = {
        f"{kind}_{name}": [(point.step, getattr(point, name)) for point in points]
        for kind, points in (("train", evidence.curve), ("validation", evidence.validation))
        for name in ("loss", "accuracy", "margin")
    }
    return {name: float(getattr(evidence, name)) for name in names}, curves


def _write_fixture(scorer: RewardScorer, preferences: Path, path: Path) -> None:
    chosen = pl.read_parquet(preferences / "items.parquet").filter(split="validation").head(_FIXTURE_TEXTS)
    prompts, responses = chosen["prompt"].to_list(), chosen["response"].to_list()
    scores = scorer.raw_scores(prompts, responses)
    known = [i for i, score in enumerate(scores) if score == score]
    fixture = {
        "prompts": [prompts[i] for i in known],
        "responses": [responses[i] for i in known],
        "raw_scores": [float(scores[i]) for i in known],
    }
    path.write_text(json.dumps(fixture, indent=1, ensure_ascii=False), encoding="utf-8")
