"""RLOO, GRPO and DPO by TRL behind one function: the alternatives to PPO.

In: the start policy, prompts and a function that rewards answers. Out: the aligned policy and its curve. An optimizer
step learns from ``prompts_per_update`` x ``samples_per_prompt`` answers (DPO: from so many prompts' pairs), and
``ppo.epochs`` steps learn from the same ones. RLOO is Ahmadian et al. 2024, GRPO Shao et al. 2024, DPO Rafailov et al.
2023; how settings map is in ``trl_settings``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewardloop.config import AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import UpdatePoint
from rewardloop.modeling.policy import Policy
from rewardloop.modeling.scoring import Messages
from rewardloop.training import trl_curve, trl_run
from rewardloop.training.collapse import facts_of
from rewardloop.training.order import cycled
from rewardloop.training.policies import trainable
from rewardloop.training.trl_pairs import sample_pairs
from rewardloop.training.trl_settings import paired_arguments, sampled_arguments, updates_of

RewardFunction = Callable[[Sequence[Messages], Sequence[str], Sequence[bool]], NDArray[np.float64]]
"""(prompts, answers as text, whether each came to an end of its own) to standardized rewards, the penalty for a missing
end included; NaN for an answer that cannot be scored."""
EachUpdate = Callable[[UpdatePoint], object]


@dataclass
class TrlResult:
    """A policy aligned by TRL."""

    policy: Policy
    curve: list[UpdatePoint]
    """0 where the algorithm does not have a field; ``trl_curve`` says which."""
    episodes: int
    updates: int
    seconds: float
    """Of all calls, where a killed one was gone on from."""
    tokens: int
    """Generated."""
    resumed_from_update: int | None
    precision: str
    """``float32`` or ``bfloat16``: what passes compute in."""


def align_with_trl(
    start: Policy,
    prompts: Sequence[Messages],
    settings: AlignSettings,
    reward: RewardFunction,
    *,
    checkpoints: Path,
    each_update: EachUpdate | None = None,
) -> TrlResult:
    """Align ``start`` by ``settings.algorithm``; a killed call goes on from its last checkpoint.

    Args:
        start: in float32, without adapters; it is trained in place, and as it was it is the reference.
        prompts: to answer; short enough for the policy.
        settings: the section ``align``; ``algorithm`` is ``rloo``, ``grpo`` or ``dpo``.
        reward: of answers.
        checkpoints: folder for the trainer's checkpoints, of this training alone.
        each_update: told each update's point.

    Raises:
        BadInputError: TRL would read the prompts otherwise than the policy does, DPO finds no pair to learn from, or
            ``start`` is on another GPU than the first.
    """
    if start.rounded or hasattr(start.model, "peft_config"):
        raise ValueError("TRL trains a start in float32 and without adapters; load it with rounded=False")
    if settings.samples_per_prompt < 2:
        raise BadInputError(
            f"align.samples_per_prompt: {settings.samples_per_prompt}; {settings.algorithm} compares answers to one "
            "prompt: at least 2"
        )
    if start.device.type == "cuda" and start.device.index:
        raise BadInputError(
            f"align.device: {start.device}; TRL trains on the first GPU: set it to auto, and CUDA_VISIBLE_DEVICES to "
            f"{start.device.index}"
        )
    with trl_run.quiet():
        align = _align_on_pairs if settings.algorithm == "dpo" else _align_on_samples
        result = align(start, prompts, settings, reward, checkpoints, each_update)
    if settings.method == "lora":
        result.policy.model.delete_adapter(_REFERENCE)
    result.policy.model.eval()
    return result


_REFERENCE = "ref"
"""TRL's name for its copy of the adapters as they were."""


def _align_on_samples(
    start: Policy,
    prompts: Sequence[Messages],
    settings: AlignSettings,
    reward: RewardFunction,
    checkpoints: Path,
    each_update: EachUpdate | None,
) -> TrlResult:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    asked, longest = _as_trl_reads(start, prompts, settings.algorithm)
    policy = trainable(start, settings)
    # All passes over the prompts are one epoch to TRL: it drops what does not fill an update at an epoch's end, and
    # forgets its shuffling when it goes on after a kill.
    places = cycled(len(asked), updates_of(settings) * settings.prompts_per_update, 0, settings.seed)
    arguments = sampled_arguments(settings, checkpoints=checkpoints, device=policy.device, longest_prompt=longest)
    trainer_of, config_of = (GRPOTrainer, GRPOConfig) if settings.algorithm == "grpo" else (RLOOTrainer, RLOOConfig)
    trainer = trainer_of(
        model=policy.model,
        reward_funcs=_reward_for_trl(policy, prompts, reward),
        args=trl_run.on_one_device(config_of(**arguments)),
        train_dataset=Dataset.from_list([{"prompt": asked[place], "place": place} for place in places]),
        processing_class=policy.tokenizer,
    )

    def each_log(step: int, history: list[dict[str, Any]]) -> None:
        if each_update is not None and "loss" in history[-1] and step % settings.ppo.epochs == 0:
            each_update(trl_curve.sampled_curve(history, settings)[-1])

    resumed = trl_run.run_trainer(trainer, checkpoints, each_log)
    history = trainer.state.log_history
    curve = trl_curve.sampled_curve(history, settings)
    return TrlResult(
        policy=policy,
        curve=curve,
        episodes=curve[-1].episodes,
        updates=len(curve),
        seconds=trl_curve.seconds_of(history),
        tokens=round(sum(entry["tokens"] for entry in history if "tokens" in entry)),
        resumed_from_update=None if resumed is None else resumed // settings.ppo.epochs,
        precision=trl_run.computes_in(settings.precision, policy.device),
    )


def _as_trl_reads(policy: Policy, prompts: Sequence[Messages], algorithm: str) -> tuple[list[Any], int]:
    """(prompts as text or messages, tokens of the longest); TRL makes the tokens itself."""
    tokenizer = policy.tokenizer
    if policy.plain_text:
        asked: list[Any] = ["".join(message["content"] for message in prompt) for prompt in prompts]
        read = tokenizer(text=asked)["input_ids"]
    else:
        asked = [[dict(message) for message in prompt] for prompt in prompts]
        read = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=True)[
            "input_ids"
        ]
    wanted = [policy.prompt_ids(prompt) for prompt in prompts]
    if [list(ids) for ids in read] != wanted:
        raise BadInputError(
            f"align.algorithm: {algorithm}: TRL would read the prompts otherwise than the policy is asked (its "
            "tokenizer ends texts with a token of its own); set it to ppo or dpo"
        )
    return asked, max(map(len, wanted))


def _reward_for_trl(policy: Policy, prompts: Sequence[Messages], reward: RewardFunction) -> Callable[..., list[float]]:
    """The reward as TRL calls it; what TRL does not log of the answers is logged here."""

    def scored(
        *, completion_ids: list[list[int]], place: list[int], log_metric: Callable[[str, float], None], **rest: Any
    ) -> list[float]:
        """The rewards of a batch of answers, as TRL asks for them."""
        finished = [policy.finished(answer) for answer in completion_ids]
        asked = [prompts[number] for number in place]
        texts = [
            policy.text(policy.prompt_ids(prompt), answer) for prompt, answer in zip(asked, completion_ids, strict=True)
        ]
        facts = facts_of(completion_ids, finished, [not text.strip() for text in texts])
        for name in ("length", "unfinished", "distinct_bigrams"):
            log_metric(name, getattr(facts, name))
        log_metric("tokens", sum(map(len, completion_ids)))
        return [float(value) for value in reward(asked, texts, finished)]

    return scored


def _align_on_pairs(
    start: Policy,
    prompts: Sequence[Messages],
    settings: AlignSettings,
    reward: RewardFunction,
    checkpoints: Path,
    each_update: EachUpdate | None,
) -> TrlResult:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class PairTrainer(DPOTrainer):  # type: ignore[misc]
        """TRL's, on pairs that are tokens already: as text, an answer without an end would be given one."""

        def _prepare_dataset(self, dataset: Any, *rest: Any) -> Any:
            return dataset

    pairs = sample_pairs(start, prompts, settings, reward, checkpoints)
    policy = trainable(start, settings)
    longest = max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in pairs.rows)
    arguments = paired_arguments(
        settings, checkpoints=checkpoints, device=policy.device, longest=longest, pairs=len(pairs.rows)
    )
    trainer = PairTrainer(
        model=policy.model,
        args=trl_run.on_one_device(DPOConfig(**arguments)),
        train_dataset=Dataset.from_list(pairs.rows),
        processing_class=policy.tokenizer,
    )

    def curve_of(history: trl_curve.History) -> list[UpdatePoint]:
        return trl_curve.paired_curve(history, episodes=pairs.episodes, beta=arguments["beta"], answers=pairs.answers)

    def each_log(step: int, history: list[dict[str, Any]]) -> None:
        if each_update is not None and "loss" in history[-1]:
            each_update(curve_of(history)[-1])

    resumed = trl_run.run_trainer(trainer, checkpoints, each_log)
    history = trainer.state.log_history
    curve = curve_of(history)
    return TrlResult(
        policy=policy,
        curve=curve,
        episodes=pairs.episodes,
        updates=len(curve),
        seconds=pairs.seconds + trl_curve.seconds_of(history),
        tokens=pairs.tokens,
        resumed_from_update=resumed,
        precision=trl_run.computes_in(settings.precision, policy.device),
    )
