"""The section ``align`` in the words of TRL's configurations.

In: settings, the policy's device and lengths. Out: keyword arguments of ``RLOOConfig``, ``GRPOConfig`` and
``DPOConfig``. ``generation.rows``, ``kl.adaptive``, ``kl.budget``, ``ppo.minibatches``, ``stop`` and what says "value"
are PPO's own and have no counterpart; other options of RLOO, GRPO and DPO stay as TRL has them.
"""

import math
from pathlib import Path
from typing import Any

import torch

from rewardloop.config import AlignSettings
from rewardloop.training.trl_run import rows_at_once, shared_arguments

DPO_BETA = 0.1
"""TRL's default, where ``kl.beta`` is 0: DPO means nothing without a reference."""


def updates_of(settings: AlignSettings) -> int:
    """Sets of answers that ``episodes`` are dealt to, as in PPO."""
    return math.ceil(settings.episodes / (settings.prompts_per_update * settings.samples_per_prompt))


def sampled_arguments(
    settings: AlignSettings, *, checkpoints: Path, device: torch.device, longest_prompt: int
) -> dict[str, Any]:
    """Arguments of ``RLOOConfig`` and ``GRPOConfig``.

    Args:
        settings: the section ``align``.
        checkpoints: folder of the trainer's checkpoints.
        device: where the policy is.
        longest_prompt: tokens.
    """
    epochs, updates = settings.ppo.epochs, updates_of(settings)
    return {
        "max_steps": updates * epochs,
        "num_generations": settings.samples_per_prompt,
        "num_iterations": epochs,
        "max_completion_length": settings.generation.max_new_tokens,
        "temperature": settings.generation.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "beta": settings.kl.beta,
        "epsilon": settings.ppo.clip_range,
        "use_vllm": False,
        "disable_dropout": True,
        "shuffle_dataset": False,  # prompts come in the order in which they are asked
        "remove_unused_columns": False,  # the reward is told which prompt it was
        **_common(
            settings,
            checkpoints,
            device,
            rows=settings.prompts_per_update * settings.samples_per_prompt,
            length=longest_prompt + settings.generation.max_new_tokens,
            # Only between updates: TRL keeps no answers in its checkpoints.
            save_steps=epochs * math.ceil(updates / settings.checkpoints),
        ),
    }


def paired_arguments(
    settings: AlignSettings, *, checkpoints: Path, device: torch.device, longest: int, pairs: int
) -> dict[str, Any]:
    """Arguments of ``DPOConfig``: ``prompts_per_update`` pairs an optimizer step, ``ppo.epochs`` times through all.

    Args:
        settings: the section ``align``.
        checkpoints: folder of the trainer's checkpoints.
        device: where the policy is.
        longest: tokens of the longest prompt with its longer answer.
        pairs: to learn from.
    """
    rows = min(settings.prompts_per_update, pairs)
    steps = settings.ppo.epochs * math.ceil(pairs / rows)
    return {
        "num_train_epochs": settings.ppo.epochs,
        "beta": settings.kl.beta or DPO_BETA,
        "max_length": None,
        "disable_dropout": True,
        **_common(
            settings,
            checkpoints,
            device,
            rows=rows,
            length=2 * longest,
            save_steps=math.ceil(steps / settings.checkpoints),
        ),
    }


def _common(
    settings: AlignSettings, checkpoints: Path, device: torch.device, *, rows: int, length: int, save_steps: int
) -> dict[str, Any]:
    return {
        "lr_scheduler_type": settings.schedule,
        "max_grad_norm": settings.max_gradient_norm,
        "logging_steps": 1,
        **shared_arguments(
            checkpoints,
            device=device,
            precision=settings.precision,
            rows=rows,
            rows_at_once=rows_at_once(rows, length, settings.tokens_per_batch),
            save_steps=save_steps,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        ),
    }
