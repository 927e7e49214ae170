"""One alignment, from files to files, in one process, in many, or on many nodes.

In: an ``AlignJob``: the outputs of the steps before. Out: in ``output`` the policy (``policy.json`` and the adapter, or
all weights) and ``alignment.json`` (``AlignmentEvidence``), written by the first process.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from tqdm import tqdm

from rewardloop.config import AlignSettings, DistributedSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import AlignmentEvidence, UpdatePoint
from rewardloop.modeling.policy import Policy, PolicyInfo, save_policy, start_place
from rewardloop.training import launch
from rewardloop.training.alignment import AlignmentJob, align
from rewardloop.training.devices import choose_device, gpus
from rewardloop.training.hardware import keep_freed_memory
from rewardloop.training.processes import Alone, Processes
from rewardloop.training.reward_source import open_rewards

_STEP = "align_policy"


@dataclass(frozen=True)
class AlignJob:
    """Everything that a process needs to know to take part."""

    start: str
    """Output folder of ``train_sft``."""
    references: str
    """Output folder of ``generate_references``."""
    reward_model: str
    """Output folder of ``train_reward_model``."""
    evaluation: str
    """Output folder of ``evaluate_reward_model``."""
    base_models: str
    """Folder where converted bases are kept."""
    settings: str
    """JSON with the section ``align``, perhaps ``distributed``."""
    checkpoints: str
    """Folder, or URL of one in an object store."""
    output: str

    def inputs(self) -> dict[str, str]:
        """See ``launch.Job``; of the bases only the one that is started from."""
        folders = {name: getattr(self, name) for name in ("start", "references", "reward_model", "evaluation")}
        base = Path(start_place(Path(self.start), Path(self.base_models)))
        if base.is_dir() and base.parent == Path(self.base_models):
            folders[f"base_models/{base.name}"] = str(base)
        return folders


def run_alignment(job: AlignJob) -> AlignmentEvidence:
    """Align as ``job`` says, in as many processes and on as many nodes as it says.

    Raises:
        BadInputError: what any of the processes found wrong, or an algorithm that knows one process only.
    """
    sections = json.loads(job.settings)
    settings = AlignSettings.model_validate(sections["align"])
    spread = DistributedSettings.model_validate(sections.get("distributed", {}))
    if settings.algorithm != "ppo" and launch.on_nodes(_STEP, spread):
        raise BadInputError(
            f"align.algorithm: {settings.algorithm} runs in one process; take align_policy out of distributed.steps, "
            "or set align.algorithm: ppo"
        )
    launch.run(_STEP, job, spread, _processes(settings, spread))
    found = Path(job.output) / "alignment.json"
    evidence = AlignmentEvidence.model_validate_json(found.read_bytes())
    found.unlink()  # the step writes it where evidence lies
    return evidence


def align_here(job: AlignJob) -> None:
    """This process's part of an alignment; alone, all of it."""
    settings = AlignSettings.model_validate(json.loads(job.settings)["align"])
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    # Before any device is chosen: of several GPUs, it makes one this process's own.
    processes = Processes(cpu=settings.device == "cpu") if several else Alone()
    device = choose_device(settings.device, "align.device")
    keep_freed_memory()
    rewards, source = open_rewards(settings, Path(job.reward_model), Path(job.evaluation))
    whole = AlignmentJob(
        start=Path(job.start),
        cache=Path(job.base_models),
        references=pl.read_parquet(Path(job.references) / "references.parquet"),
        settings=settings,
        rewards=rewards,
        reward_model=source.digest,
        reward_place=source.place,
        device=device,
        checkpoints=job.checkpoints,
        processes=processes,
    )
    updates = -(-settings.episodes // (settings.prompts_per_update * settings.samples_per_prompt))
    with tqdm(total=updates, desc="aligning", unit="update", disable=not processes.first) as bar:

        def show(point: UpdatePoint) -> None:
            bar.set_postfix(reward=f"{point.reward:+.2f}", kl=f"{point.kl:.2f}", refresh=False)
            bar.update(point.update - bar.n)

        aligned, evidence = align(whole, show)
    if processes.first:
        output = Path(job.output)
        _save(aligned, Path(job.start), evidence, output)
        (output / "alignment.json").write_text(evidence.model_dump_json(indent=1), encoding="utf-8")
    processes.wait()


def _processes(settings: AlignSettings, spread: DistributedSettings) -> int:
    """Of this machine. Where nobody says how many: one per GPU, unless GPUs are already given out by hand."""
    if settings.algorithm != "ppo":
        if (spread.processes or 1) > 1:
            print(f"aligned in one process: TRL's {settings.algorithm} is not spread", flush=True)
        return 1
    by_hand = settings.device == "cpu" or ":" in settings.reward_device
    return spread.processes or (1 if by_hand else max(1, min(gpus(), settings.prompts_per_update)))


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
