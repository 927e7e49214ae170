"""PPO goes on from where it was killed, to the same bits; what is no number is named and the checkpoint kept."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardloop.errors import BadInputError
from rewardloop.evidence import UpdatePoint
from rewardloop.training.checkpoint import CheckpointFolder
from tests.policies import is_arm, run, settings_of, trainer_of, vowels, weights_of


class KilledError(Exception):
    """Stands for a killed process."""


def kill_after(update: int) -> Callable[[UpdatePoint], None]:
    def look(point: UpdatePoint) -> None:
        if point.update == update:
            raise KilledError

    return look


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpoints", [6, 3])
def test_a_killed_training_goes_on_to_the_same_bits(base: Path, tmp_path: Path, method: str, checkpoints: int) -> None:
    settings = settings_of(
        method=method, episodes=32 * 6, checkpoints=checkpoints, evaluations=3, generation={"max_new_tokens": 4},
        schedule="linear", kl={"beta": 0.1, "adaptive": True, "target": 0.5, "horizon": 100},
    )  # fmt: skip
    whole = run(trainer_of(tmp_path / "whole", base, settings, vowels), tmp_path / "whole")
    killed = tmp_path / "killed"
    with pytest.raises(KilledError):
        run(trainer_of(killed, base, settings, vowels), killed, kill_after(4))
    trainer = trainer_of(killed, base, settings, vowels)
    updates: list[int] = []
    saved = 3 if checkpoints == 6 else 2  # the fourth update's own was not written yet
    assert trainer.run(
        CheckpointFolder(killed / "checkpoints"), each_update=lambda point: updates.append(point.update)
    ) == saved  # fmt: skip
    assert updates == list(range(saved + 1, 7))
    now = weights_of(whole)
    assert all(torch.equal(value, now[name]) for name, value in weights_of(trainer).items())
    for name in ("validation", "samples", "best_update", "best_reward", "tokens"):
        assert getattr(trainer.progress, name) == getattr(whole.progress, name)
    for a, b in zip(trainer.progress.curve, whole.progress.curve, strict=True):
        assert a | {"tokens_per_second": 0} == b | {"tokens_per_second": 0}
    # A finished one has nothing left to do.
    third = trainer_of(killed, base, settings, vowels)
    assert third.run(CheckpointFolder(killed / "checkpoints"), each_update=kill_after(1)) == 6
    assert all(torch.equal(value, now[name]) for name, value in weights_of(third).items())


def test_a_stopped_training_stays_stopped(base: Path, tmp_path: Path) -> None:
    settings = settings_of(episodes=32 * 20, learning_rate=5e-3, kl={"budget": 0.1}, evaluations=20)
    first = run(trainer_of(tmp_path, base, settings, is_arm), tmp_path)
    assert first.progress.stopped
    again = run(trainer_of(tmp_path, base, settings, is_arm), tmp_path, kill_after(first.progress.update + 1))
    assert again.progress == first.progress
    now = weights_of(again)
    assert all(torch.equal(value, now[name]) for name, value in weights_of(first).items())


def test_a_checkpoint_of_other_settings_is_refused(base: Path, tmp_path: Path) -> None:
    run(trainer_of(tmp_path, base, settings_of(), is_arm), tmp_path)
    with pytest.raises(BadInputError, match=r"is of another training: settings was .*0\.003.*, is .*0\.001"):
        run(trainer_of(tmp_path, base, settings_of(learning_rate=1e-3), is_arm), tmp_path)
    with pytest.raises(BadInputError, match=r"is of another training: prompts was 8, is 2"):
        run(trainer_of(tmp_path, base, settings_of(), is_arm, train=["a", "b"]), tmp_path)
    # Where things are may change.
    moved = settings_of(prompts="other.jsonl", checkpoints=2, reward_device="cpu")
    trainer = trainer_of(tmp_path, base, moved, is_arm)
    assert trainer.run(CheckpointFolder(tmp_path / "checkpoints")) == 3


def test_a_reward_that_is_no_number_is_named_and_the_checkpoint_kept(base: Path, tmp_path: Path) -> None:
    settings = settings_of(episodes=32 * 6, checkpoints=6, evaluations=1)
    trainer = trainer_of(tmp_path, base, settings, is_arm)
    scorer: Any = trainer.rewards.scorer

    def spoil(point: UpdatePoint) -> None:
        if point.update == 2:
            scorer.rule = lambda prompt, response: math.nan

    with pytest.raises(BadInputError, match="the reward model gives nan for the answer"):
        run(trainer, tmp_path, spoil)
    mended = trainer_of(tmp_path, base, settings, is_arm)
    assert mended.run(CheckpointFolder(tmp_path / "checkpoints")) == 2


def test_a_loss_that_is_no_number_is_named_and_the_checkpoint_kept(base: Path, tmp_path: Path) -> None:
    settings = settings_of(episodes=32 * 6, checkpoints=6, evaluations=1)
    trainer = trainer_of(tmp_path, base, settings, is_arm)

    def spoil(point: UpdatePoint) -> None:
        if point.update == 2:
            with torch.no_grad():
                trainer.values.module.weight.fill_(math.inf)  # type: ignore[operator, union-attr]

    with pytest.raises(
        BadInputError, match=r"align: update 3: the loss .* not a finite number; lower align.learning_r"
    ):
        run(trainer, tmp_path, spoil)
    state = torch.load(tmp_path / "checkpoints" / "checkpoint.pt", weights_only=True)
    assert state["progress"]["update"] == 2
