"""PPO learns what is rewarded and stays where it must; its gradients are those of the losses written out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rewardloop.config import TrainingSettings
from rewardloop.evidence import UpdatePoint
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import Policy, load_start
from rewardloop.modeling.reward_model import build_reward_model
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.training.advantages import Advantages
from rewardloop.training.order import cycled
from rewardloop.training.ppo import PpoTrainer, figures_of
from rewardloop.training.rollouts import answer, kl_of
from rewardloop.training.values import RewardModelValues
from tests.policies import (
    LETTERS,
    is_arm,
    prompt_of,
    run,
    settings_of,
    trainer_of,
    vowels,
    weights_of,
)


def mean_reward(policy: Policy, rule: Callable[[str, str], float], prompts: list[str], limit: int = 1) -> float:
    """Of many new answers."""
    settings = settings_of(generation={"max_new_tokens": limit}).generation
    ids = [prompt_of(policy, text).ids for text in prompts]
    answers = generate(policy, ids, settings, samples=64, seed=77)
    return float(
        np.mean([rule(text, policy.text(i, one)) for text, i, group in zip(prompts, ids, answers) for one in group])  # noqa: B905
    )


# The first update ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fields",
    [
        {"method": "full"},
        {"method": "lora"},
        {"method": "lora", "lora_layers": 1},
        {"method": "lora", "lora_layers": 1, "precision": "bfloat16"},
    ],
)
def test_an_update_begins_at_the_policy_that_answered(base: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    settings = settings_of(
        generation={"max_new_tokens": 5}, ppo={"minibatches": 1, "epochs": 1}, episodes=32, kl={"beta": 0.5}, **fields
    )
    trainer = trainer_of(tmp_path, base, settings, vowels)
    seen: list[UpdatePoint] = []
    run(trainer, tmp_path, seen.append)
    (point,) = seen
    # One minibatch, one epoch: the only step was made at a ratio of 1.
    assert point.kl == 0.0
    assert point.kl_k3 == 0.0
    assert point.approx_kl == 0.0
    assert point.clip_fraction == 0.0
    assert point.optimizer_steps == 1
    # Whitened advantages have mean 0, and the loss at a ratio of 1 is their negative mean.
    assert point.policy_loss == pytest.approx(0.0, abs=1e-6)
    # Values begin at 0, so the value loss is half the mean square of the returns: not 0.
    assert point.value_loss > 0
    assert point.explained_variance == pytest.approx(0.0, abs=1e-6)
    assert 0 < point.entropy < math.log(11)
    assert (point.update, point.episodes, point.beta) == (1, 32, 0.5)
    assert point.gradient_norm > 0


def test_figures_of_a_later_update_are_of_the_answers_as_they_were(base: Path, tmp_path: Path) -> None:
    settings = settings_of(generation={"max_new_tokens": 5, "temperature": 0.8}, episodes=96, learning_rate=1e-2)
    trainer = trainer_of(tmp_path, base, settings, vowels)
    answers, expected = [], []

    def look(point: UpdatePoint) -> None:
        # What the policy will answer next, and how far from the reference that is.
        places = [0, 1, 2, 3]
        prompts = [trainer.train[place] for place in places]
        answers.append(answer(trainer.policy, prompts, trainer.rewards, settings, samples=4, seed=1))
        expected.append(kl_of(trainer.readers, answers[-1]).mean())

    run(trainer, tmp_path, look)
    curve, validation, samples = figures_of(trainer.progress)
    assert [point.update for point in curve] == [1, 2, 3]
    assert [point.kl > 0.01 for point in curve] == [False, True, True]
    # Other answers of the same policy: the same size.
    assert curve[2].kl == pytest.approx(expected[1], rel=0.7)
    assert curve[2].kl_k3 == pytest.approx(curve[2].kl, rel=0.7)
    assert all(point.approx_kl > 0 for point in curve)
    assert [point.optimizer_steps for point in curve] == [4, 4, 4]
    assert [point.update for point in validation] == [0, 3]
    assert {sample.update for sample in samples} == {0, 3}
    assert trainer.progress.tokens == sum(round(32 * point.length) for point in curve)
    assert trainer.progress.generation_seconds > 0


# It learns -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_bandit_is_learnt(base: Path, tmp_path: Path, method: str) -> None:
    settings = settings_of(method=method, episodes=32 * 20, learning_rate=1e-3 if method == "full" else 5e-3)
    trainer = trainer_of(tmp_path, base, settings, is_arm)
    before = mean_reward(trainer.policy, is_arm, ["a", "bc", "ghi"])
    run(trainer, tmp_path)
    after = mean_reward(trainer.policy, is_arm, ["a", "bc", "ghi"])
    assert before < 0.35  # two of eleven tokens
    assert after > 0.85
    curve = trainer.progress.curve
    assert curve[-1]["reward"] > curve[0]["reward"] + 0.4
    assert curve[-1]["kl"] > 0.5
    assert trainer.progress.stopped == ""
    assert trainer.progress.best_reward > 0.8


def test_the_last_letter_of_the_prompt_is_copied(base: Path, tmp_path: Path) -> None:
    """What is right depends on the prompt: no single answer wins more than a third."""

    def copies(prompt: str, response: str) -> float:
        return float(response == prompt[-1])

    random = np.random.default_rng(0)
    prompts = ["".join(random.choice(list(LETTERS), 2)) + "adg"[place % 3] for place in range(60)]
    settings = settings_of(
        episodes=64 * 20, prompts_per_update=16, learning_rate=1e-3, ppo={"epochs": 4, "minibatches": 2}
    )
    trainer = trainer_of(tmp_path, base, settings, copies, train=prompts[:48], validation=prompts[48:])
    before = mean_reward(trainer.policy, copies, prompts[48:])
    run(trainer, tmp_path)
    assert before < 0.2
    assert mean_reward(trainer.policy, copies, prompts[48:]) > 0.75


def test_whole_answers_get_better(base: Path, tmp_path: Path) -> None:
    settings = settings_of(episodes=32 * 15, generation={"max_new_tokens": 6}, learning_rate=5e-3)
    trainer = run(trainer_of(tmp_path, base, settings, vowels), tmp_path)
    assert trainer.progress.curve[-1]["reward"] > trainer.progress.curve[0]["reward"] + 0.3


def test_values_learn_what_an_answer_is_worth(base: Path, tmp_path: Path) -> None:
    """The reward depends on the prompt alone: nothing for the policy to learn, everything for its values."""
    settings = settings_of(episodes=32 * 15, learning_rate=5e-3, ppo={"value_coefficient": 1.0, "value_clip_range": 1})
    trainer = trainer_of(tmp_path, base, settings, lambda prompt, response: float(prompt[0] in "abd"))
    curve = run(trainer, tmp_path).progress.curve
    assert curve[0]["explained_variance"] == pytest.approx(0.0, abs=1e-6)
    assert curve[-1]["explained_variance"] > 0.8
    assert curve[-1]["value_loss"] < 0.2 * curve[0]["value_loss"]


def test_a_penalty_for_answers_without_end_makes_them_end(base: Path, tmp_path: Path) -> None:
    settings = settings_of(
        episodes=32 * 20, generation={"max_new_tokens": 4}, learning_rate=1e-3, missing_eos_penalty=1.0
    )
    # Without the second rule all answers would soon be empty.
    curve = run(trainer_of(tmp_path, base, settings, lambda _, text: 0.0 if text else -2.0), tmp_path).progress.curve
    assert curve[0]["unfinished"] > 0.5
    assert curve[-1]["unfinished"] < 0.25


def test_a_high_price_keeps_the_policy_at_the_reference(base: Path, tmp_path: Path) -> None:
    kl = []
    for beta in (0.0, 50.0):
        settings = settings_of(episodes=32 * 12, kl={"beta": beta}, learning_rate=3e-4)
        trainer = run(trainer_of(tmp_path / str(beta), base, settings, is_arm), tmp_path / str(beta))
        kl.append([point["kl_k3"] for point in trainer.progress.curve])
    # The first step knows no KL yet.
    assert kl[0][1] == pytest.approx(kl[1][1], rel=1e-3)
    assert kl[0][-1] > 1
    assert max(kl[1]) < 0.15
    assert kl[1][-1] < 0.06


def test_beta_follows_the_kl(base: Path, tmp_path: Path) -> None:
    settings = settings_of(
        episodes=32 * 4, kl={"beta": 0.1, "adaptive": True, "target": 5.0, "horizon": 320}, learning_rate=1e-4
    )
    trainer = run(trainer_of(tmp_path, base, settings, is_arm), tmp_path)
    # The KL stays far below the target: 20% less per horizon, 2% per update.
    expected = [0.1 * 0.98**place for place in range(4)]
    assert [point["beta"] for point in trainer.progress.curve] == pytest.approx(expected)


def test_the_learning_rate_falls_to_nothing_or_stays(base: Path, tmp_path: Path) -> None:
    for schedule, rates in (("linear", [4e-3, 3e-3, 2e-3, 1e-3]), ("constant", [4e-3] * 4)):
        settings = settings_of(episodes=32 * 4, learning_rate=4e-3, schedule=schedule)
        trainer = run(trainer_of(tmp_path / schedule, base, settings, is_arm), tmp_path / schedule)
        assert [point["learning_rate"] for point in trainer.progress.curve] == pytest.approx(rates)


# Gradients -----------------------------------------------------------------------------------------------------------
def batch_of(trainer: PpoTrainer) -> tuple[Any, Advantages]:
    """An update's answers as the learner reads them, with advantages drawn at random."""
    prompts = trainer.train[: trainer.settings.prompts_per_update]
    answers = answer(trainer.policy, prompts, trainer.rewards, trainer.settings, samples=4, seed=3)
    batch = trainer.learner.read(answers, 0)
    torch.manual_seed(4)
    advantage, returns = (torch.randn_like(batch.mask_BT) * batch.mask_BT for _ in range(2))
    return batch, Advantages(advantage, returns)


def gradient(trainer: PpoTrainer) -> dict[str, Tensor]:
    found = {name: value.grad.clone() for name, value in trainer.trained.items() if value.grad is not None}
    trainer.optimizer.zero_grad(set_to_none=True)
    return found


def test_gradients_do_not_depend_on_order_rows_or_row_mates(base: Path, tmp_path: Path) -> None:
    results = []
    for budget, order in ((4096, [0, 1, 2]), (4096, [2, 0, 1]), (1, [0, 1, 2])):
        settings = settings_of(generation={"max_new_tokens": 6}, ppo={"minibatches": 3}, tokens_per_batch=budget)
        trainer = trainer_of(tmp_path / f"{budget}{order}", base, settings, vowels)
        batch, learnt = batch_of(trainer)
        assert len(batch.rows) == 3
        assert [len(rows) for rows in batch.rows] == ([1, 1, 1] if budget > 1 else [3, 3, 2])
        with torch.no_grad():  # a step away from the policy that answered
            for value in trainer.trained.values():
                value.add_(0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(5)))
        sums = {number: trainer.learner.accumulate(batch, learnt, number) for number in order}
        results.append((gradient(trainer), sums, batch))
    (expected, expected_sums, batch), *others = results
    assert batch.tokens(0) + batch.tokens(1) + batch.tokens(2) == int(batch.mask_BT.sum())
    for found, sums, other in others:
        torch.testing.assert_close(other.logp_BT, batch.logp_BT, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(other.reference_BT, batch.reference_BT, rtol=1e-5, atol=1e-5)
        assert found.keys() == expected.keys()
        scale = max(float(value.abs().max()) for value in expected.values())
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6 * max(1.0, scale))
        for number, values in expected_sums.items():
            assert sums[number] == pytest.approx(values, rel=1e-4, abs=1e-5)


def test_the_gradient_is_that_of_the_loss_written_out(base: Path, tmp_path: Path) -> None:
    """The dense computation of one minibatch: every answer in a call of its own, means over tokens."""
    settings = settings_of(
        generation={"max_new_tokens": 6, "temperature": 0.7}, ppo={"minibatches": 1, "value_coefficient": 0.3}
    )
    trainer = trainer_of(tmp_path, base, settings, vowels)
    batch, learnt = batch_of(trainer)
    with torch.no_grad():
        for value in trainer.trained.values():
            value.add_(0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(5)))
    sums = trainer.learner.accumulate(batch, learnt, 0)
    found = gradient(trainer)
    prompts = trainer.train[:8]
    answers = answer(
        load_start(tmp_path / "start", tmp_path / "cache"), prompts, trainer.rewards, settings, samples=4, seed=3
    )
    losses, written = [], dict.fromkeys(sums, 0.0)
    model = trainer.policy.causal_model
    for number, ids in enumerate(answers.ids):
        prompt = prompts[number // 4].ids
        out = model(input_ids=torch.tensor([[*prompt, *ids]]), output_hidden_states=True)
        places = slice(len(prompt) - 1, len(prompt) + len(ids) - 1)
        logp = (out.logits[0, places] / 0.7).log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
        value = trainer.values.module(out.hidden_states[-1][0, places])[:, 0]
        here = slice(0, len(ids))
        ratio = (logp - batch.logp_BT[number, here]).exp()
        advantage, returns = learnt.advantage_BT[number, here], learnt.return_BT[number, here]
        policy_loss = -torch.minimum(advantage * ratio, advantage * ratio.clamp(0.8, 1.2))
        held = value.clamp(-0.2, 0.2)  # values were 0
        value_loss = 0.5 * torch.maximum((value - returns) ** 2, (held - returns) ** 2)
        losses.append(policy_loss + 0.3 * value_loss)
        written["policy_loss"] += float(policy_loss.detach().sum())
        written["value_loss"] += float(value_loss.detach().sum())
        # The clip decides where the ratio has gone beyond it to the side of the advantage.
        written["clip_fraction"] += int((((ratio - 1) * advantage.sign()) > 0.2).sum())
        # Answers are of the old policy: ratio - 1 - log ratio.
        written["approx_kl"] += float((ratio - 1 - ratio.log()).detach().sum())
    torch.cat(losses).mean().backward()
    expected = gradient(trainer)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    assert sums == pytest.approx(written, rel=1e-3, abs=1e-4)
    assert written["clip_fraction"] > 3
    assert written["approx_kl"] > 0.1


def test_advantages_of_an_update_are_discounted_as_the_settings_say(base: Path, tmp_path: Path) -> None:
    settings = settings_of(
        generation={"max_new_tokens": 5},
        episodes=32,
        ppo={"gamma": 0.6, "gae_lambda": 0.9, "epochs": 1, "minibatches": 1, "whiten_advantages": False},
        missing_eos_penalty=0.5,
    )
    trainer = trainer_of(tmp_path, base, settings, vowels)
    with torch.no_grad():  # values that are not 0, so that gamma and lambda are told apart
        trainer.values.module.weight.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[operator, union-attr]
    places = cycled(8, 8, 0, 0)
    answers = answer(
        trainer.policy, [trainer.train[i] for i in places], trainer.rewards, settings, samples=4, seed=(0, 0)
    )
    batch = trainer.learner.read(answers, 0)
    advantages = []
    for number, ids in enumerate(answers.ids):
        value = [*batch.value_BT[number, : len(ids)].tolist(), 0.0]
        following = 0.0
        for t in reversed(range(len(ids))):
            reward = float(answers.reward_B[number]) if t == len(ids) - 1 else 0.0
            following = reward + 0.6 * value[t + 1] - value[t] + 0.6 * 0.9 * following
            advantages.append(following)
    seen: list[UpdatePoint] = []
    run(trainer, tmp_path, seen.append)
    assert seen[0].policy_loss == pytest.approx(-np.mean(advantages), abs=1e-5)
    assert seen[0].value_loss == pytest.approx(0.5 * np.mean(np.square(advantages)), rel=1e-5)
    assert seen[0].reward == pytest.approx(answers.reward_B.mean())


def test_every_update_draws_other_answers(base: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    def listen(prompt: str, response: str) -> float:
        heard.append(response)
        return 0.0

    settings = settings_of(generation={"max_new_tokens": 6}, learning_rate=1e-12, episodes=96)
    trainer = trainer_of(tmp_path, base, settings, listen, train=["abc"])
    updates: list[list[str]] = []
    heard.clear()
    run(trainer, tmp_path, lambda point: updates.append(heard[-32:]))
    assert len(updates) == 3
    assert updates[0] != updates[1] != updates[2] != updates[0]
    assert len(set(updates[0])) > 20


# References and values -----------------------------------------------------------------------------------------------
def test_all_weights_train_against_a_reference_that_stays(base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, base, settings_of(episodes=32 * 5), is_arm)
    reference = trainer.readers.reference
    assert reference is not None
    before = {name: value.clone() for name, value in reference.model.state_dict().items()}
    assert len(trainer.trained) == len(list(trainer.policy.model.parameters())) + 2
    run(trainer, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in reference.model.state_dict().items())
    moved = trainer.policy.model.state_dict()
    assert not any(torch.equal(moved[name], value) for name, value in before.items())


def test_adapters_train_and_nothing_else_does(base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, base, settings_of(episodes=32 * 3, method="lora"), is_arm)
    frozen = {n: v.clone() for n, v in trainer.policy.model.state_dict().items() if "lora_" not in n}
    assert trainer.readers.reference is None
    run(trainer, tmp_path)
    now = trainer.policy.model.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in frozen.items())
    assert all(now[name].abs().max() > 0 for name in now if "lora_B" in name)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_values_of_the_reward_model_train_with_the_policy(base: Path, tmp_path: Path, method: str) -> None:
    model, tokenizer = build_reward_model(str(base), TrainingSettings(seed=1))
    scorer = RewardScorer(
        model, tokenizer,
        {"template": "plain", "max_length": 32, "truncation_side": "left", "raw_mean": 0.0, "raw_spread": 0.1,
         "scale": {"raw": [0, 1], "public": [0, 1]}},
    )  # fmt: skip
    settings = settings_of(
        method=method, episodes=32 * 6, generation={"max_new_tokens": 3}, ppo={"value": "reward_model"}
    )
    trainer = trainer_of(
        tmp_path, base, settings, is_arm, scorer=scorer, values=lambda s, policy: RewardModelValues(s, policy, settings)
    )
    raw = scorer.raw_scores([[]], ["abc"])
    before = weights_of(trainer)
    run(trainer, tmp_path)
    assert trainer.values.in_words == "a model of its own, begun as the reward model"
    now = weights_of(trainer)
    trained = [name for name in now if name.startswith("values.") and "lora_A" not in name]
    assert sum(not torch.equal(now[name], before[name]) for name in trained) > 0.9 * len(trained)
    assert np.array_equal(scorer.raw_scores([[]], ["abc"]), raw)
