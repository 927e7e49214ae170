"""The training loop: seeded, resumable at the exact step, stopped and rolled back by the validation split."""

import contextlib
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
from rewardloop.modeling.scoring import Block, read_padded
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
        blocks = tuple(Block([], (sequence,)) for sequence in sequences)
        groups.append(Group(index, blocks, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), labels))
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
    trainer = RewardTrainer(
        model, 0, wanted, train=planted_groups(12, 1), validation=planted_groups(6, 2), max_length=64
    )
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
    trainer = RewardTrainer(model, 0, wanted, train=planted_groups(12, 1), validation=opposite, max_length=64)
    result = trainer.run(CheckpointFolder(tmp_path), each_step=lambda step, loss: None)
    assert result.stopped_early
    assert result.steps < trainer.steps
    losses = [point.loss for point in result.validation]
    assert result.best_step == result.validation[int(np.argmin(losses))].step
    now = weights(trainer)
    assert all(torch.equal(value, now[name]) for name, value in trainer.best_weights().items())


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
        RewardTrainer(model, 0, settings(), train=[], validation=planted_groups(2, 0), max_length=64)


def test_diverged_training_is_named(tiny_base: str, tmp_path: Path) -> None:
    wanted = settings()
    model, _ = build_reward_model(tiny_base, wanted)
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    trainer = RewardTrainer(
        model, 0, wanted, train=planted_groups(4, 1), validation=planted_groups(2, 2), max_length=64
    )
    with pytest.raises(
        BadInputError, match=r"the loss is nan at step 1, groups \d, \d of .*; lower training\.learning_rate"
    ):
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
    first, second = (read_padded(model.train(), ids, torch.ones_like(ids)) for _ in range(2))
    assert torch.equal(first, second)


def losses_of(base: str, **changes: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    wanted = settings(groups_per_step=8, epochs=3, checkpoints=1, **changes)
    model, _ = build_reward_model(base, wanted)
    trainer = RewardTrainer(model, 0, wanted, train=uneven_groups(24, 1), validation=uneven_groups(6, 2), max_length=64)
    losses: list[float] = []
    places = [trainer.order.places(step) for step in range(trainer.steps)]
    with contextlib.ExitStack() as stack:
        if trainer.keeps_frozen:
            trainer._compute_frozen()
            stack.enter_context(trainer.frozen.skipped())
        losses = [trainer._step(place)[0] for place in places]
    return losses, weights(trainer)


def uneven_groups(count: int, seed: int) -> list[Group]:
    """Planted groups of two to four responses with a prompt, so that batches hold uneven numbers of them."""
    random = np.random.default_rng(seed)
    groups = []
    for index in range(count):
        size = int(random.integers(2, 5))
        quality = random.permutation(size)
        responses = tuple([10] * (1 + 2 * int(value)) + [20] * int(random.integers(1, 6)) + [1] for value in quality)
        prompt = random.integers(30, 200, random.integers(2, 12)).tolist()
        pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
        labels = tuple(float(quality[a] > quality[b]) for a, b in pairs)
        blocks = (Block(prompt, responses),)
        groups.append(Group(index, blocks, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), labels))
    return groups


def test_one_batch_of_eight_groups_equals_eight_batches_of_one(tiny_base: str) -> None:
    whole, after_whole = losses_of(tiny_base, tokens_per_batch=4096)
    parts, after_parts = losses_of(tiny_base, tokens_per_batch=60)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6)
    np.testing.assert_allclose(parts, whole, rtol=1e-4)  # Adam makes much of rounding
    for name, value in after_whole.items():
        torch.testing.assert_close(after_parts[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frozen_layers_are_computed_once_with_the_same_result(tiny_base: str, precision: str) -> None:
    again, after_again = losses_of(
        tiny_base, method="top_layers", top_layers=1, frozen_cache_gb=0.0, precision=precision
    )
    once, after_once = losses_of(tiny_base, method="top_layers", top_layers=1, precision=precision)
    np.testing.assert_allclose(once, again, rtol=1e-5 if precision == "float32" else 2e-2)
    if precision == "float32":
        for name, value in after_again.items():
            torch.testing.assert_close(after_once[name], value, rtol=1e-4, atol=1e-4)


def test_frozen_layers_run_once_per_group(tiny_base: str, tmp_path: Path) -> None:
    wanted = settings(method="top_layers", top_layers=1, epochs=3)
    model, _ = build_reward_model(tiny_base, wanted)
    calls = []
    model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    groups = planted_groups(12, 1)
    trainer = RewardTrainer(model, 0, wanted, train=groups, validation=planted_groups(6, 2), max_length=64)
    calls.clear()
    result = trainer.run(CheckpointFolder(tmp_path))
    assert result.frozen_layers_kept == 1
    # All 18 groups fit into one row; 18 steps and 4 evaluations came after.
    assert len(calls) == 1
    assert result.steps == 18
    # Afterwards the model is whole again.
    assert model.model.layers[0].register_forward_hook


def test_gradient_checkpointing_changes_no_loss(tiny_base: str) -> None:
    plain, _ = losses_of(tiny_base)
    saved, _ = losses_of(tiny_base, gradient_checkpointing=True)
    np.testing.assert_allclose(saved, plain, rtol=1e-5)


def test_compiled_layers_give_the_same_losses(tiny_base: str) -> None:
    plain, _ = losses_of(tiny_base)
    compiled, _ = losses_of(tiny_base, compile=True)
    np.testing.assert_allclose(compiled, plain, rtol=1e-4)


def test_a_base_that_cannot_be_packed_trains_padded_and_learns(tiny_base: str, tmp_path: Path) -> None:
    from tests.bases import PADDED, make_base

    wanted = settings(epochs=4)
    trainer = RewardTrainer(
        make_base(*PADDED["bloom"]), 0, wanted, train=planted_groups(12, 1), validation=planted_groups(6, 2),
        max_length=64,
    )  # fmt: skip
    result = trainer.run(CheckpointFolder(tmp_path))
    assert result.reading == "padded"
    assert "ALiBi" in result.reading_reason
    assert result.curve[-1].loss < result.curve[0].loss


def test_a_group_beyond_the_budget_is_named_before_training(tiny_base: str) -> None:
    wanted = settings(tokens_per_batch=10)
    model, _ = build_reward_model(tiny_base, wanted)
    with pytest.raises(BadInputError, match=r"tokens_per_batch: found 10; group \d+ of 3 responses has 21 tokens"):
        RewardTrainer(model, 0, wanted, train=planted_groups(4, 1), validation=planted_groups(2, 2), max_length=64)


def test_a_checkpoint_of_another_training_is_refused_with_the_difference(tiny_base: str, tmp_path: Path) -> None:
    train(tiny_base, tmp_path)
    with pytest.raises(BadInputError, match=r"another training: learning_rate was 0.003, is 0.001"):
        train(tiny_base, tmp_path, learning_rate=1e-3)
    # How the work is done may change.
    _, result = train(tiny_base, tmp_path, tokens_per_batch=30)
    assert result.resumed_from_step == result.steps


def test_no_finite_loss_stops_and_keeps_the_last_good_checkpoint(tiny_base: str, tmp_path: Path) -> None:
    wanted = settings(checkpoints=12)
    model, _ = build_reward_model(tiny_base, wanted)
    trainer = RewardTrainer(
        model, 0, wanted, train=planted_groups(12, 1), validation=planted_groups(6, 2), max_length=64
    )

    def spoil(step: int, loss: float) -> None:
        if step == 5:
            with torch.no_grad():
                model.score.weight.fill_(float("inf"))

    with pytest.raises(BadInputError, match=r"at step 6, groups \d+, \d+ of the training split"):
        trainer.run(CheckpointFolder(tmp_path), each_step=spoil)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["progress"]["step"] == 5


def test_memory_that_runs_out_is_one_clear_line(
    tiny_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings()
    model, _ = build_reward_model(tiny_base, wanted)
    trainer = RewardTrainer(
        model, 0, wanted, train=planted_groups(4, 1), validation=planted_groups(2, 2), max_length=64
    )

    def exhaust(*args: Any, **options: Any) -> None:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e15 bytes"
        )

    monkeypatch.setattr(model.model, "forward", exhaust)
    with pytest.raises(BadInputError, match=r"out of memory at step 1: lower training.tokens_per_batch \(now 3,072\)"):
        trainer.run(CheckpointFolder(tmp_path))


def test_what_the_hardware_did_is_measured(tiny_base: str, tmp_path: Path) -> None:
    _, result = train(tiny_base, tmp_path)
    assert 0 < result.utilization < 1
    assert "measured" in result.peak_flops_source
    assert result.padding_share == 0.0
    assert result.peak_memory_bytes > 50_000_000
    assert [point.margin for point in result.curve][-1] > 0


def test_vocabulary_without_the_padding_token(tiny_base: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_base), AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.pad_token = "<new>"  # added behind the last embedding
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    _, mended = build_reward_model(str(tmp_path), settings())
    assert mended.pad_token_id < model.config.vocab_size
    bare = AutoTokenizer.from_pretrained(tiny_base)
    bare.pad_token = bare.eos_token = None
    bare.save_pretrained(tmp_path)
    with pytest.raises(BadInputError, match="the padding token is missing"):
        build_reward_model(str(tmp_path), settings())
