"""The training loop: seeded, resumable at the exact step, stopped and rolled back by the validation split."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewardloop.config import TrainingSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.reward_model import build_reward_model
from rewardloop.modeling.scoring import read_scores
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import Group
from rewardloop.training.reward import RewardTrainer


def planted_groups(count: int, seed: int) -> list[Group]:
    """Three sequences each; the more often token 10 occurs, the better."""
    random = np.random.default_rng(seed)
    groups = []
    for index in range(count):
        quality = random.permutation(3)
        sequences = tuple([10] * (1 + 2 * int(value)) + [20] * (5 - 2 * int(value)) + [1] for value in quality)
        pairs = [(a, b) for a in range(3) for b in range(a + 1, 3)]
        labels = tuple(float(quality[a] > quality[b]) for a, b in pairs)
        groups.append(Group(index, sequences, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), labels))
    return groups


def settings(**changes: Any) -> TrainingSettings:
    defaults = {
        "epochs": 2,
        "groups_per_step": 2,
        "learning_rate": 3e-3,
        "evaluations": 4,
        "checkpoints": 4,
        "precision": "float32",
    }
    return TrainingSettings.model_validate(defaults | changes)


def train(
    base: str, folder: Path, each_step: Callable[[int, float], object] = lambda step, loss: None, **changes: Any
) -> tuple[RewardTrainer, Any]:
    wanted = settings(**changes)
    model, _ = build_reward_model(base, wanted)
    trainer = RewardTrainer(model, 0, wanted, train=planted_groups(12, 1), validation=planted_groups(6, 2))
    return trainer, trainer.run(CheckpointFolder(folder), each_step=each_step)


def weights(trainer: RewardTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def test_learns_the_planted_preference(tiny_base: str, tmp_path: Path) -> None:
    _, result = train(tiny_base, tmp_path, epochs=4)
    assert result.validation[-1].accuracy > 0.9
    assert result.curve[-1].loss < result.curve[0].loss


@pytest.mark.parametrize("method", ["full", "top_layers", "lora"])
def test_two_runs_give_the_same_weights(tiny_base: str, tmp_path: Path, method: str) -> None:
    first, _ = train(tiny_base, tmp_path / "1", method=method, top_layers=1)
    second, _ = train(tiny_base, tmp_path / "2", method=method, top_layers=1)
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def test_killed_run_continues_to_the_same_weights(tiny_base: str, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(step: int, loss: float) -> None:
        if step == 8:
            raise KilledError

    undisturbed, _ = train(tiny_base, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tiny_base, tmp_path / "killed", each_step=kill)
    resumed, result = train(tiny_base, tmp_path / "killed")
    assert result.resumed_from_step == 6  # twelve steps, a checkpoint every three
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(undisturbed).items())


def test_stops_without_improvement_and_returns_the_best_weights(tiny_base: str, tmp_path: Path) -> None:
    # A validation split whose labels say the opposite: the more is learnt, the worse it gets.
    wanted = settings(epochs=4, evaluations=8, patience=2)
    model, _ = build_reward_model(tiny_base, wanted)
    opposite = [dataclasses.replace(group, p=tuple(1 - p for p in group.p)) for group in planted_groups(6, 2)]
    trainer = RewardTrainer(model, 0, wanted, train=planted_groups(12, 1), validation=opposite)
    result = trainer.run(CheckpointFolder(tmp_path), each_step=lambda step, loss: None)
    assert result.stopped_early
    assert result.steps < trainer.steps
    losses = [point.loss for point in result.validation]
    assert result.best_step == result.validation[int(np.argmin(losses))].step
    assert all(torch.equal(trainer.best[name], value) for name, value in trainer.weights.items())


def test_only_the_chosen_weights_train(tiny_base: str) -> None:
    model, _ = build_reward_model(tiny_base, settings(method="top_layers", top_layers=1))
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert "score.weight" in trained
    assert "model.norm.weight" in trained
    assert any(name.startswith("model.layers.1.") for name in trained)
    assert not any(name.startswith(("model.layers.0.", "model.embed_tokens")) for name in trained)


def test_too_many_top_layers_is_refused_with_the_number(tiny_base: str) -> None:
    with pytest.raises(BadInputError, match=r"training.top_layers: found 5; .* has 2 layers"):
        build_reward_model(tiny_base, settings(method="top_layers", top_layers=5))


def test_nothing_to_train_on_is_refused(tiny_base: str) -> None:
    model, _ = build_reward_model(tiny_base, settings())
    with pytest.raises(BadInputError, match="add feedback"):
        RewardTrainer(model, 0, settings(), train=[], validation=planted_groups(2, 0))


def test_diverged_training_is_named(tiny_base: str, tmp_path: Path) -> None:
    wanted = settings()
    model, _ = build_reward_model(tiny_base, wanted)
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    trainer = RewardTrainer(model, 0, wanted, train=planted_groups(4, 1), validation=planted_groups(2, 2))
    with pytest.raises(BadInputError, match=r"diverged; lower training\.learning_rate"):
        trainer.run(CheckpointFolder(tmp_path), each_step=lambda step, loss: None)


def test_nothing_is_dropped_out_also_where_dropout_is_a_function(tmp_path: Path, tiny_base: str) -> None:
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=300, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=32,
        dropout=0.5, attention_dropout=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(tmp_path)
    model, _ = build_reward_model(str(tmp_path), settings())
    ids = torch.tensor([[5, 6, 7, 1]])
    first, second = (read_scores(model.train(), ids, torch.ones_like(ids)) for _ in range(2))
    assert torch.equal(first, second)
