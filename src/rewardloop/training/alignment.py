"""A policy is aligned by the algorithm of the configuration: PPO here, RLOO, GRPO and DPO through TRL.

In: a start policy, its references (which name the prompts and say what it answered), rewards. Out: the aligned policy
and the evidence. All algorithms have the same inputs, outputs and evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch

from rewardloop.config import AlignSettings
from rewardloop.evidence import AlignmentEvidence, UpdatePoint
from rewardloop.modeling.policy import Policy, PolicyInfo, load_start
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collapse import TextFacts, facts_of
from rewardloop.training.hardware import peak_memory
from rewardloop.training.policies import rounds_policy, trainable
from rewardloop.training.ppo import PpoTrainer, figures_of
from rewardloop.training.processes import Alone
from rewardloop.training.rewards import Rewards
from rewardloop.training.rollouts import Prompt, Readers, reference_answers, validate, validation_point
from rewardloop.training.values import RewardModelValues


@dataclass(frozen=True)
class AlignmentJob:
    """One alignment."""

    start: Path
    """Output of ``train_sft``."""
    cache: Path
    """Where converted bases are kept."""
    references: pl.DataFrame
    """``REFERENCES``."""
    settings: AlignSettings
    rewards: Rewards
    reward_model: str
    """Digest of its files."""
    reward_place: str
    device: torch.device
    checkpoints: str
    """Folder, or URL of one in an object store."""
    processes: Alone = field(default_factory=Alone)
    """That align together, by PPO."""


def align(
    job: AlignmentJob, each_update: Callable[[UpdatePoint], object] = lambda point: None
) -> tuple[Policy, AlignmentEvidence]:
    """Align a policy; a killed call goes on from its last checkpoint."""
    info = PolicyInfo.read(job.start)
    evidence = AlignmentEvidence(
        algorithm=job.settings.algorithm,
        base=info.base,
        start=info.start,
        method=job.settings.method,
        reward_model=job.reward_model,
        scored=job.settings.scored,
        parameters=0,
        trained_parameters=0,
        value="",
        prompts=job.references.filter(split="train")["key"].n_unique(),
        episodes=0,
        updates=0,
        best_update=0,
        stopped="",
        resumed_from_update=None,
        seconds=0.0,
        generation_seconds=0.0,
        tokens=0,
        peak_memory_bytes=0,
        precision="float32",
        device=str(job.device),
        processes=job.processes.count,
        reward_place=job.reward_place,
        kl_budget=job.settings.kl.budget,
        seed=job.settings.seed,
    )
    run = _align_by_ppo if job.settings.algorithm == "ppo" else _align_by_trl
    policy, found = run(job, each_update)
    sizes = {
        "parameters": sum(value.numel() for value in policy.model.parameters()),
        "trained_parameters": sum(value.numel() for value in policy.model.parameters() if value.requires_grad),
        "peak_memory_bytes": peak_memory(job.device),
    }
    return policy, evidence.model_copy(update=found | sizes)


def prompts_of(references: pl.DataFrame, split: str) -> list[Prompt]:
    """The prompts of a split, each once, in the order of their keys."""
    chosen = references.filter(split=split).unique("key", keep="first", maintain_order=True).sort("key")
    return [
        Prompt(messages, ids)
        for messages, ids in zip(chosen["prompt"].to_list(), chosen["prompt_ids"].to_list(), strict=True)
    ]


def _align_by_ppo(job: AlignmentJob, each_update: Callable[[UpdatePoint], object]) -> tuple[Policy, dict[str, object]]:
    rounded = rounds_policy(job.settings, job.device)
    start = load_start(job.start, job.cache, device=job.device, rounded=rounded)
    reference = None
    if job.settings.method == "full":
        reference = load_start(job.start, job.cache, device=job.device)
    policy = trainable(start, job.settings)
    values = None
    if job.settings.ppo.value == "reward_model":
        values = RewardModelValues(job.rewards.scorer, policy, job.settings)
    trainer = PpoTrainer(
        policy,
        job.settings,
        train=prompts_of(job.references, "train"),
        validation=reference_answers(job.references, "validation", job.rewards),
        rewards=job.rewards,
        reference_facts=_reference_facts(job.references),
        reference=reference,
        values=values,
        processes=job.processes,
    )
    resumed = trainer.run(CheckpointFolder.at(job.checkpoints), each_update=each_update)
    progress = trainer.progress
    curve, validation, samples = figures_of(progress)
    return policy, {
        "value": trainer.values.in_words,
        "episodes": progress.update * trainer.episodes,
        "updates": progress.update,
        "best_update": progress.best_update,
        "stopped": progress.stopped,
        "resumed_from_update": resumed,
        "seconds": progress.seconds,
        "generation_seconds": progress.generation_seconds,
        "tokens": progress.tokens,
        "precision": "bfloat16" if rounded else "float32",
        "curve": curve,
        "validation": validation,
        "samples": samples,
    }


def _reference_facts(references: pl.DataFrame) -> Callable[[Sequence[int]], TextFacts]:
    """Facts of the references' answers to the training prompts at given positions."""
    table = references.filter(split="train", sample=0).sort("key")
    ids, finished = table["response_ids"].to_list(), table["finished"].to_list()
    empty = [not text.strip() for text in table["response"]]

    def facts(places: Sequence[int]) -> TextFacts:
        return facts_of([ids[i] for i in places], [finished[i] for i in places], [empty[i] for i in places])

    return facts


def _align_by_trl(job: AlignmentJob, each_update: Callable[[UpdatePoint], object]) -> tuple[Policy, dict[str, object]]:
    from rewardloop.training.trl_policies import align_with_trl

    start = load_start(job.start, job.cache, device=job.device)
    reference = load_start(job.start, job.cache, device=job.device) if job.settings.method == "full" else None
    validation = reference_answers(job.references, "validation", job.rewards)
    before = validation_point(validation, np.zeros(len(validation.ids)), job.settings, update=0)
    done = align_with_trl(
        start,
        [prompt.messages for prompt in prompts_of(job.references, "train")],
        job.settings,
        job.rewards,
        checkpoints=Path(job.checkpoints),
        each_update=each_update,
    )
    readers = Readers(done.policy, job.settings, reference)
    after = validate(readers, validation.prompts, job.rewards, update=done.updates)
    stopped = "" if after[0].within_budget else "TRL's trainers know no KL budget: the policy ended beyond it"
    return done.policy, {
        "episodes": done.episodes,
        "updates": done.updates,
        "best_update": done.updates,
        "stopped": stopped,
        "resumed_from_update": done.resumed_from_update,
        "seconds": done.seconds,
        "tokens": done.tokens,
        "precision": done.precision,
        "curve": done.curve,
        "validation": [before[0], after[0]],
        "samples": [*before[1], *after[1]],
    }
