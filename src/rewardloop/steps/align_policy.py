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
from tqdm import tqdm

from rewardloop.config import PLACES, AlignSettings
from rewardloop.evidence import AlignmentEvidence, UpdatePoint
from rewardloop.modeling.policy import Policy, PolicyInfo, save_policy, start_tokenizer
from rewardloop.modeling.policy_parity import write_policy_fixture
from rewardloop.steps.step_run import step_run
from rewardloop.training.alignment import AlignmentJob, align
from rewardloop.training.devices import choose_device
from rewardloop.training.hardware import keep_freed_memory
from rewardloop.training.reward_source import check_template, open_rewards
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
        settings: JSON with the section ``align``.
        code_version: fingerprint of the code; with inputs and settings it names the checkpoint.
        policy: output folder.

    Raises:
        BadInputError: a device that is asked for is absent, or the reward model reads prompts otherwise.
    """
    section = json.loads(settings)["align"]
    wanted = AlignSettings.model_validate(section)
    with step_run("align_policy", inputs=[references, evaluation], output=policy) as run:
        device = choose_device(wanted.device, "align.device")
        keep_freed_memory()
        home = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop"))
        check_template(start_tokenizer(start_policy, home / "base-models"), reward_model, wanted)
        rewards, source = open_rewards(wanted, reward_model, evaluation)
        lasting = {name: value for name, value in section.items() if name not in PLACES | {"prompts"}}
        files = [references / "references.parquet", start_policy / "policy.json", evaluation / "scoring.json"]
        digest = work_digest(files, lasting, source.digest, code_version)
        work = home / "work" / "align_policy" / digest
        work.parent.mkdir(parents=True, exist_ok=True)
        job = AlignmentJob(
            start=start_policy,
            cache=home / "base-models",
            references=pl.read_parquet(references / "references.parquet"),
            settings=wanted,
            rewards=rewards,
            reward_model=source.digest,
            reward_place=source.place,
            device=device,
            checkpoints=work,
        )
        updates = -(-wanted.episodes // (wanted.prompts_per_update * wanted.samples_per_prompt))
        # Two runs of the same policy and settings would write the same checkpoint.
        with FileLock(work.with_suffix(".lock")), tqdm(total=updates, desc="aligning", unit="update") as bar:

            def show(point: UpdatePoint) -> None:
                bar.set_postfix(reward=f"{point.reward:+.2f}", kl=f"{point.kl:.2f}", refresh=False)
                bar.update(point.update - bar.n)

            aligned, evidence = align(job, show)
            _save(aligned, start_policy, evidence, policy)
            shown = job.references.filter(split="validation").head(_FIXTURE_ANSWERS)
            write_policy_fixture(policy, job.cache, shown.select("prompt_ids", "response_ids").rows())
            run.write("alignment", evidence)
            run.produced = _in_words(evidence)
            run.log(*_for_mlflow(evidence), tables={"samples": [sample.model_dump() for sample in evidence.samples]})
            shutil.rmtree(work, ignore_errors=True)


def _save(aligned: Policy, start_policy: Path, evidence: AlignmentEvidence, folder: Path) -> None:
    start = PolicyInfo.read(start_policy)
    info = PolicyInfo(
        base=start.base,
        start=start.start,
        trained="adapter" if evidence.method == "lora" else "model",
        plain_text=start.plain_text,
        temperature=start.temperature,
        max_new_tokens=start.max_new_tokens,
        reward_model=evidence.reward_model,
        scored=evidence.scored,
    )
    save_policy(aligned, info, folder, start_policy)


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
