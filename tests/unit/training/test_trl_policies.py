"""RLOO, GRPO and DPO by TRL: settings reach it as they mean, answers get better, and the curve says what happened."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from trl import DPOConfig, GRPOConfig, RLOOConfig

from rewardloop.config import AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import UpdatePoint
from rewardloop.modeling.policy import Policy, load_causal_model
from rewardloop.modeling.scoring import Messages
from rewardloop.training.trl_curve import sampled_curve
from rewardloop.training.trl_pairs import sample_pairs
from rewardloop.training.trl_policies import TrlResult, align_with_trl
from rewardloop.training.trl_settings import paired_arguments, sampled_arguments

PROMPTS: list[Messages] = [[{"role": "user", "content": f"say {i}"}] for i in range(10)]
CPU = torch.device("cpu")


def settings_of(algorithm: str, **fields: Any) -> AlignSettings:
    small = {
        "prompts": "p.jsonl",
        "algorithm": algorithm,
        "method": "full",
        "learning_rate": 3e-3,
        "schedule": "constant",
        "prompts_per_update": 8,
        "samples_per_prompt": 4,
        "episodes": 192,
        "generation": {"max_new_tokens": 8, "temperature": 1.0},
        "kl": {"beta": 0.01},
        "checkpoints": 3,
    }
    return AlignSettings.model_validate(small | fields)


def letters(prompts: Sequence[Messages], answers: Sequence[str], finished: Sequence[bool]) -> NDArray[np.float64]:
    """Ten times the share of characters that are lower-case letters."""
    assert len(prompts) == len(answers) == len(finished)
    assert all(prompt in PROMPTS for prompt in prompts)
    return np.array([10 * sum("a" <= c <= "z" for c in text) / max(1, len(text)) for text in answers])


def start_of(base: str) -> Policy:
    model, tokenizer = load_causal_model(base)
    return Policy(model.eval(), tokenizer, plain_text=True)


def align(base: str, folder: Path, settings: AlignSettings, **rest: Any) -> TrlResult:
    return align_with_trl(start_of(base), PROMPTS, settings, letters, checkpoints=folder, **rest)


def mean_reward(policy: Policy) -> float:
    """Of 320 new answers."""
    from rewardloop.modeling.generation import generate

    settings = settings_of("rloo").generation
    ids = [policy.prompt_ids(prompt) for prompt in PROMPTS]
    answers = generate(policy, ids, settings, samples=32, seed=99)
    texts = [policy.text(prompt, answer) for prompt, group in zip(ids, answers, strict=True) for answer in group]
    return float(letters([prompt for prompt in PROMPTS for _ in range(32)], texts, [True] * 320).mean())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_settings_mean_the_same_to_trl(tmp_path: Path) -> None:
    settings = settings_of(
        "rloo",
        episodes=1000,
        prompts_per_update=6,
        max_gradient_norm=0.7,
        learning_rate=2e-4,
        schedule="linear",
        seed=7,
        kl={"beta": 0.03},
        ppo={"epochs": 3, "clip_range": 0.15},
        generation={"max_new_tokens": 40, "temperature": 0.6},
        tokens_per_batch=400,
    )
    arguments = sampled_arguments(settings, checkpoints=tmp_path, device=CPU, longest_prompt=20)
    for config in (RLOOConfig(**arguments), GRPOConfig(**arguments)):
        # 24 answers an update: 42 updates of 3 steps; 6 answers of at most 60 tokens fit into 400.
        assert config.max_steps == 42 * 3
        assert config.per_device_train_batch_size == 6
        assert config.gradient_accumulation_steps == config.steps_per_generation == 4
        assert config.generation_batch_size == 24
        assert (config.num_generations, config.num_iterations) == (4, 3)
        assert (config.max_completion_length, config.temperature) == (40, 0.6)
        assert (config.top_p, config.top_k, config.min_p, config.repetition_penalty) == (1.0, 0, None, 1.0)
        assert (config.beta, config.epsilon, config.epsilon_high) == (0.03, 0.15, None)
        assert (config.learning_rate, config.lr_scheduler_type, config.warmup_steps) == (2e-4, "linear", 0)
        assert (config.max_grad_norm, config.weight_decay, config.seed) == (0.7, 0.0, 7)
        assert config.save_steps == 3 * 14  # whole updates, three checkpoints
        assert not config.bf16
        assert not config.use_vllm
        assert not config.gradient_checkpointing
        assert config.report_to == []
        assert not config.push_to_hub
    paired = DPOConfig(**paired_arguments(settings, checkpoints=tmp_path, device=CPU, longest=60, pairs=50))
    # Pairs are two sequences of 60: 3 of 6 fit into 400; 9 steps an epoch.
    assert (paired.num_train_epochs, paired.save_steps) == (3, 9)
    assert (paired.per_device_train_batch_size, paired.gradient_accumulation_steps) == (3, 2)
    assert (paired.beta, paired.max_length, paired.seed) == (0.03, None, 7)
    without = settings.model_copy(update={"kl": settings.kl.model_copy(update={"beta": 0.0})})
    assert paired_arguments(without, checkpoints=tmp_path, device=CPU, longest=60, pairs=2)["beta"] == 0.1


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "dpo"])
def test_answers_get_better(tiny_base: str, tmp_path: Path, algorithm: str) -> None:
    seen: list[UpdatePoint] = []
    before = mean_reward(start_of(tiny_base))
    settings = settings_of(algorithm, episodes=384, ppo={"epochs": 2})
    result = align(tiny_base, tmp_path, settings, each_update=seen.append)
    assert mean_reward(result.policy) > before + 1
    assert seen == result.curve
    assert result.episodes == 384
    # DPO: the pairs of 96 prompts (with other answers each time that a prompt comes again), 8 a step.
    assert result.updates == len(result.curve) == (2 * 12 if algorithm == "dpo" else 12)
    assert (result.resumed_from_update, result.precision) == (None, "float32")
    assert 384 <= result.tokens <= 384 * 8
    assert [point.update for point in seen] == list(range(1, len(seen) + 1))
    last = seen[-1]
    assert last.entropy > 0
    assert 1 <= last.length <= 8
    assert last.gradient_norm > 0
    assert last.learning_rate == pytest.approx(3e-3)
    if algorithm != "dpo":
        assert last.reward > seen[0].reward
        assert seen[0].kl == pytest.approx(0, abs=1e-4)
        assert last.kl > 0
        assert [point.episodes for point in seen] == [32 * number for number in range(1, 13)]
        assert sum(round(32 * point.length) for point in seen) == result.tokens
    # Nothing of TRL stays on the model.
    assert "forward" not in vars(result.policy.causal_model)


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "dpo"])
def test_only_adapters_move_and_the_copy_of_them_is_gone(tiny_base: str, tmp_path: Path, algorithm: str) -> None:
    start = start_of(tiny_base)
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    settings = settings_of(algorithm, method="lora", episodes=64, lora_rank=4)
    policy = align_with_trl(start, PROMPTS, settings, letters, checkpoints=tmp_path).policy
    assert list(policy.model.peft_config) == ["default"]
    moved = [value.abs().max() for name, value in policy.model.named_parameters() if "lora_B" in name]
    assert len(moved) == 14
    assert all(value > 0 for value in moved)
    assert not [name for name, _ in policy.model.named_parameters() if ".ref." in name]
    with policy.as_reference() as reference:
        now = {name.replace(".base_layer", ""): value for name, value in reference.state_dict().items()}
    assert all(torch.equal(now[name], value) for name, value in before.items())
    trained = {name for name, value in policy.model.named_parameters() if value.requires_grad}
    assert trained == {name for name, _ in policy.model.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize(("algorithm", "method"), [("rloo", "lora"), ("grpo", "full"), ("dpo", "lora")])
def test_a_killed_training_goes_on_to_the_same_weights(
    tiny_base: str, tmp_path: Path, algorithm: str, method: str
) -> None:
    settings = settings_of(algorithm, method=method)
    stop_at = 9 if algorithm == "dpo" else 5

    def stop(point: UpdatePoint) -> None:
        if point.update == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(tiny_base, tmp_path / "killed", settings, each_update=stop)
    resumed = align(tiny_base, tmp_path / "killed", settings)
    whole = align(tiny_base, tmp_path / "whole", settings)
    assert resumed.resumed_from_update == (8 if algorithm == "dpo" else 4)
    states = [dict(result.policy.model.named_parameters()) for result in (resumed, whole)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    untimed = [[point.model_copy(update={"tokens_per_second": 0}) for point in one.curve] for one in (resumed, whole)]
    assert untimed[0] == untimed[1]
    assert resumed.tokens == whole.tokens
    # Killed between the end of the training and whatever came next: nothing is left to train.
    again = align(tiny_base, tmp_path / "whole", settings)
    assert again.resumed_from_update == again.updates == whole.updates
    assert again.curve == whole.curve
    assert all(torch.equal(value, states[1][name]) for name, value in again.policy.model.named_parameters())


@pytest.mark.parametrize("algorithm", ["rloo", "dpo"])
def test_chat_prompts_go_through_the_template(tiny_base: str, tmp_path: Path, algorithm: str) -> None:
    start = start_of(tiny_base)
    start.plain_text = False
    start.tokenizer.chat_template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    asked: list[Messages] = []

    def seen(prompts: Sequence[Messages], answers: Sequence[str], finished: Sequence[bool]) -> NDArray[np.float64]:
        asked.extend(prompts)
        return letters(prompts, answers, finished)

    settings = settings_of(algorithm, episodes=32)
    align_with_trl(start, PROMPTS, settings, seen, checkpoints=tmp_path)
    assert len(asked) == 32
    # Eight different prompts, four times each.
    assert sorted(asked.count(prompt) for prompt in PROMPTS) == [0, 0, *[4] * 8]


def test_pairs_are_the_best_and_the_worst_answer(tiny_base: str, tmp_path: Path) -> None:
    start = start_of(tiny_base)
    settings = settings_of("dpo", episodes=20)

    def by_number(prompts: Sequence[Messages], answers: Sequence[str], finished: Sequence[bool]) -> NDArray[np.float64]:
        scores = np.tile([1.0, 3.0, 0.0, 2.0], 5)
        scores[4:8] = 1.0  # a tie
        scores[8:12] = [np.nan, 5.0, np.nan, np.nan]  # one alone
        scores[12:16] = [np.nan, 1.0, 2.0, np.nan]
        return scores

    pairs = sample_pairs(start, PROMPTS, settings, by_number, tmp_path)
    assert len(pairs.rows) == 3
    assert pairs.episodes == 20
    asked = [row["prompt_ids"] for row in pairs.rows]
    assert all(ids in [start.prompt_ids(prompt) for prompt in PROMPTS] for ids in asked)
    assert len({tuple(ids) for ids in asked}) == 3
    assert pairs.answers["reward"] == pytest.approx((6 + 4 + 5 + 3 + 6) / 15)
    # Kept: the reward is not asked again.
    assert sample_pairs(start, PROMPTS, settings, letters, tmp_path) == pairs
    with pytest.raises(BadInputError, match=r"align\.prompts: of 5 prompts none has two answers"):
        sample_pairs(start, PROMPTS, settings, lambda *_: np.zeros(20), tmp_path / "none")


def test_what_cannot_be_aligned_is_refused(tiny_base: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"align\.samples_per_prompt: 1; dpo compares answers"):
        align(tiny_base, tmp_path, settings_of("dpo", samples_per_prompt=1))
    start = start_of(tiny_base)
    start.rounded = True
    with pytest.raises(ValueError, match="in float32"):
        align_with_trl(start, PROMPTS, settings_of("rloo"), letters, checkpoints=tmp_path)
    # A tokenizer that ends every text: the policy is asked without that, TRL would not know.
    from tokenizers.processors import TemplateProcessing

    start = start_of(tiny_base)
    start.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", start.tokenizer.eos_token_id)]
    )
    with pytest.raises(BadInputError, match=r"align\.algorithm: grpo: TRL would read the prompts otherwise"):
        align_with_trl(start, PROMPTS, settings_of("grpo"), letters, checkpoints=tmp_path)


def test_the_curve_is_of_whole_updates() -> None:
    """Two optimizer steps an update; KL per token times length; None and what is absent are 0."""
    first = {
        "loss": 0.5,
        "reward": 1.5,
        "kl": 0.2,
        "length": 10.0,
        "unfinished": 0.25,
        "grad_norm": 2.0,
        "seconds": 2.0,
    }
    history = [
        first | {"step": 1, "entropy": 3.0, "learning_rate": 0.2, "clip_ratio/region_mean": 0.0},
        {"step": 2, "loss": 0.1, "grad_norm": 4.0, "learning_rate": 0.1, "seconds": 4.0, "clip_ratio/region_mean": 0.5},
        first | {"step": 3, "reward": None, "seconds": 5.0},
        {"step": 4, "loss": 0.3, "seconds": 9.0},
        first | {"step": 5},
        {"step": 6, "train_loss": 0.2, "seconds": 10.0},
    ]
    settings = settings_of("rloo", ppo={"epochs": 2})
    points = sampled_curve(history, settings)
    assert [point.update for point in points] == [1, 2]
    one = points[0]
    assert (one.episodes, one.reward, one.kl, one.kl_k3, one.entropy) == (32, 1.5, 2.0, 0.0, 3.0)
    assert one.policy_loss == pytest.approx(0.3)
    assert (one.gradient_norm, one.learning_rate, one.clip_fraction, one.optimizer_steps) == (3.0, 0.1, 0.25, 2)
    assert one.tokens_per_second == pytest.approx(32 * 10 / 4)
    assert (points[1].reward, points[1].episodes) == (0.0, 64)
    assert points[1].tokens_per_second == pytest.approx(32 * 10 / 5)
    grpo = sampled_curve(history, settings_of("grpo", ppo={"epochs": 2}))[0]
    assert grpo.kl == grpo.kl_k3 == 2.0
