"""Align a policy to the reward model that passed its gate, at a price for leaving the reference.

In: the start policy, its references, the reward model with its scale. Out: the aligned policy (``policy.json`` and the
adapter, or all weights, as safetensors) and how it was aligned. A killed call goes on from its last checkpoint.
"""

import json
import os
import shutil
from pathlib import Path

import polars as pl
from filelock import FileLock

from rewardloop.config import PLACES, AlignSettings, DistributedSettings
from rewardloop.evidence import AlignmentEvidence, UpdatePoint
from rewardloop.modeling.policy import start_tokenizer
from rewardloop.modeling.policy_parity import write_policy_fixture
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.steps.step_run import step_run
from rewardloop.steps.train_jobs import keeping_train_jobs
from rewardloop.training.align_job import AlignJob, run_alignment
from rewardloop.training.devices import choose_device
from rewardloop.training.launch import on_nodes
from rewardloop.training.reward_source import check_template
from rewardloop.training.work import work_digest

_FIXTURE_ANSWERS = 8


def align_policy(
    *,
    start_policy: Path,
    references: Path,
    reward_model: Path,
    evaluation: Path,
    settings: str,
    code_version: str,
    policy: Path,
) -> None:
    """Align one policy.

    Args:
        start_policy: output of ``train_sft``.
        references: output of ``generate_references``.
        reward_model: output of ``train_reward_model``.
        evaluation: output of ``evaluate_reward_model``, which has the reward model's scale.
        settings: JSON with the section ``align``; ``distributed`` says on how many processes and nodes.
        code_version: fingerprint of the code; with inputs and settings it names the checkpoint.
        policy: output folder.

    Raises:
        BadInputError: a device that is asked for is absent, or the reward model reads prompts otherwise.
    """
    sections = json.loads(settings)
    section = sections["align"]
    wanted = AlignSettings.model_validate(section)
    elsewhere = on_nodes("align_policy", DistributedSettings.model_validate(sections.get("distributed", {})))
    with step_run("align_policy", inputs=[references, evaluation], output=policy) as run:
        if not elsewhere:
            choose_device(wanted.device, "align.device")
            if not wanted.reward_url:
                choose_device(wanted.reward_device, "align.reward_device")
        home = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop"))
        check_template(start_tokenizer(start_policy, home / "base-models"), reward_model, wanted)
        judge = weights_digest(reward_model / "model")
        lasting = {name: value for name, value in section.items() if name not in PLACES | {"prompts"}}
        files = [references / "references.parquet", start_policy / "policy.json", evaluation / "scoring.json"]
        digest = work_digest(files, lasting, judge, code_version)
        work = home / "work" / "align_policy" / digest
        work.parent.mkdir(parents=True, exist_ok=True)
        job = AlignJob(
            start=str(start_policy),
            references=str(references),
            reward_model=str(reward_model),
            evaluation=str(evaluation),
            base_models=str(home / "base-models"),
            settings=settings,
            checkpoints=str(work),
            output=str(policy),
        )
        # Two runs of the same policy and settings would write the same checkpoint.
        with FileLock(work.with_suffix(".lock")):
            with keeping_train_jobs(run, policy):
                evidence = run_alignment(job)
            shown = pl.read_parquet(references / "references.parquet").filter(split="validation").head(_FIXTURE_ANSWERS)
            write_policy_fixture(policy, home / "base-models", shown.select("prompt_ids", "response_ids").rows())
            run.write("alignment", evidence)
            run.produced = _in_words(evidence)
            run.log(*_for_mlflow(evidence), tables={"samples": [sample.model_dump() for sample in evidence.samples]})
            shutil.rmtree(work, ignore_errors=True)


def _in_words(evidence: AlignmentEvidence) -> str:
    first, last = evidence.validation[0], evidence.validation[-1]
    best = next((point for point in evidence.validation if point.update == evidence.best_update), last)
    reward = f"reward {first.reward:+.2f} to {best.reward:+.2f} at {best.kl:.1f} nats"
    stopped = f", stopped: {evidence.stopped}" if evidence.stopped else ""
    return f"{evidence.episodes:,} episodes in {evidence.updates:,} updates, {reward}{stopped}"


def _for_mlflow(evidence: AlignmentEvidence) -> tuple[dict[str, float], dict[str, list[tuple[int, float]]]]:
    names = ("seconds", "generation_seconds", "tokens", "episodes", "updates", "best_update", "peak_memory_bytes")
    curves = {
        name: [(point.update, float(getattr(point, name))) for point in evidence.curve]
        for name in UpdatePoint.model_fields
        if name not in ("update", "episodes")
    }
    for name in ("reward", "kl", "length"):
        curves[f"validation_{name}"] = [(point.update, getattr(point, name)) for point in evidence.validation]
    return {name: float(getattr(evidence, name)) for name in names}, curves
