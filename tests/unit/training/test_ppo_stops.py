"""Where PPO stops: an update that moved too far, the KL budget, a collapse, a plateau."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rewardloop.training.rollouts import answer, kl_of
from tests.policies import is_arm, run, settings_of, trainer_of, weights_of


def test_an_update_ends_where_it_has_moved_too_far(base: Path, tmp_path: Path) -> None:
    steps = []
    for limit in (None, 0.01):
        settings = settings_of(
            episodes=64, learning_rate=3e-2, ppo={"epochs": 4, "minibatches": 2, "update_kl_limit": limit}
        )
        trainer = run(trainer_of(tmp_path / str(limit), base, settings, is_arm), tmp_path / str(limit))
        steps.append([point["optimizer_steps"] for point in trainer.progress.curve])
        if limit:
            assert all(point["approx_kl"] <= limit for point in trainer.progress.curve)
    assert steps[0] == [8, 8]
    assert 1 <= steps[1][0] < 8


def test_beyond_the_budget_training_stops_and_goes_back_to_its_best(base: Path, tmp_path: Path) -> None:
    settings = settings_of(episodes=32 * 20, evaluations=20, learning_rate=5e-3, kl={"budget": 0.3}, ppo={"epochs": 4})
    trainer = trainer_of(tmp_path, base, settings, is_arm)
    weights: dict[int, dict[str, Tensor]] = {0: weights_of(trainer)}
    run(trainer, tmp_path, lambda point: weights.__setitem__(point.update, weights_of(trainer)))
    progress = trainer.progress
    assert "nats, beyond align.kl.budget = 0.3" in progress.stopped
    assert progress.update < 20
    assert len(progress.curve) == progress.update
    assert all(point["kl"] <= 0.3 for point in progress.curve)
    inside = [point for point in progress.validation if point["within_budget"]]
    assert len(inside) < len(progress.validation)
    best = max(inside, key=lambda point: point["reward"])
    assert progress.best_update == best["update"]
    assert max(point["reward"] for point in progress.validation) > best["reward"]
    now = weights_of(trainer)
    assert all(torch.equal(value, weights[progress.best_update][name]) for name, value in now.items())
    prompts = [prompt.messages for prompt in trainer.validation.prompts]
    again = answer(trainer.policy, trainer.validation.prompts, trainer.rewards, settings, samples=1, seed=(0, 1 << 32))
    assert len(prompts) == len(again.ids)
    if progress.best_update:
        assert kl_of(trainer.readers, again).mean() == pytest.approx(best["kl"], abs=1e-5)


def test_a_reward_for_short_answers_ends_in_a_named_collapse(base: Path, tmp_path: Path) -> None:
    settings = settings_of(
        episodes=32 * 40, generation={"max_new_tokens": 12}, learning_rate=1e-3, evaluations=40,
        stop={"min_length_share": 0.5},
    )  # fmt: skip
    trainer = trainer_of(tmp_path, base, settings, lambda _, text: -float(len(text)) if text else -20.0)
    progress = run(trainer, tmp_path).progress
    assert "tokens on average, the reference's" in progress.stopped
    assert "less than align.stop.min_length_share = 0.5 of that" in progress.stopped
    assert 2 <= progress.update < 40
    assert progress.curve[0]["length"] > progress.curve[-1]["length"]


def test_answers_without_a_character_end_the_training(base: Path, tmp_path: Path) -> None:
    settings = settings_of(episodes=32 * 40, generation={"max_new_tokens": 3}, learning_rate=1e-3)
    trainer = run(trainer_of(tmp_path, base, settings, lambda _, text: float(text == "")), tmp_path)
    assert "of the answers are empty" in trainer.progress.stopped
    assert trainer.progress.update < 40


def test_nothing_better_on_validation_prompts_ends_the_training(base: Path, tmp_path: Path) -> None:
    # Prompts that begin with i want the opposite: the more is learnt, the worse they are answered.
    def opposite(prompt: str, response: str) -> float:
        return -is_arm(prompt, response) if prompt.startswith("i") else is_arm(prompt, response)

    settings = settings_of(
        episodes=32 * 30, evaluations=30, learning_rate=5e-3,
        stop={"min_length_share": 0, "max_unfinished_rise": 1, "min_diversity_share": 0, "patience": 4},
    )  # fmt: skip
    trainer = trainer_of(tmp_path, base, settings, opposite, validation=["i" + a + b for a in "abc" for b in "defghi"])
    run(trainer, tmp_path)
    progress = trainer.progress
    assert progress.stopped.startswith("4 evaluations on validation prompts brought no better reward than update ")
    assert progress.update == progress.best_update + 4
    assert progress.update < 20
    rewards = [point["reward"] for point in progress.validation]
    assert progress.best_update == int(np.argmax(rewards))
    assert progress.best_reward == max(rewards)


def test_a_policy_that_only_got_worse_is_the_start_again(base: Path, tmp_path: Path) -> None:
    def opposite(prompt: str, response: str) -> float:
        return 0.0 if prompt.startswith("i") else is_arm(prompt, response)

    trainer = trainer_of(tmp_path, base, settings_of(episodes=96), opposite, validation=["ia", "ib"])
    before = weights_of(trainer)
    run(trainer, tmp_path)
    # Equal is not better: the start stays the best.
    assert trainer.progress.best_update == 0
    assert all(torch.equal(value, before[name]) for name, value in weights_of(trainer).items())
