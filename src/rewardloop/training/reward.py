"""Training of a reward model on groups: one loop, resumable at the exact step, stopped by the validation split.

In: a model with its trainable weights chosen, encoded groups, ``TrainingSettings``. Out: the model with the weights
of the best validation loss, and a ``RewardTraining`` that tells how it went. On one CPU machine two runs with the same
seed give the same weights.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewardloop.config import TrainingSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import CurvePoint, ValidationPoint
from rewardloop.modeling.reward_model import scoring_module
from rewardloop.modeling.scoring import read_scores
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import Group, pad_groups
from rewardloop.training.loss import group_loss

_CURVE_POINTS = 200


@dataclass
class Progress:
    """Everything about a run that a checkpoint must bring back, besides weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    without_improvement: int = 0
    stopped_early: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class RewardTraining:
    """How a training went."""

    steps: int
    best_step: int
    stopped_early: bool
    resumed_from_step: int | None
    seconds: float
    tokens: int
    precision: str
    device: str
    curve: list[CurvePoint]
    validation: list[ValidationPoint]


class RewardTrainer:
    """The loop of one training run over padded groups."""

    def __init__(
        self,
        model: Any,
        pad_id: int,
        settings: TrainingSettings,
        *,
        train: Sequence[Group],
        validation: Sequence[Group],
    ) -> None:
        if not train or not validation:
            raise BadInputError("no group with a compared pair is left to train on or to validate with; add feedback")
        self.settings = settings
        self.pad_id = pad_id
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = _precision(settings.precision, self.device)
        self.model = model.to(self.device)
        self.train = _sample(train, settings.max_groups, settings.seed)
        self.validation = _sample(validation, settings.validation_groups, settings.seed)
        self.steps_per_epoch = math.ceil(len(self.train) / settings.groups_per_step)
        self.steps = max(1, math.ceil(self.steps_per_epoch * settings.epochs))
        self.weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.scheduler = self._scheduler()
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}

    def run(self, checkpoints: CheckpointFolder, *, each_step: Callable[[int, float], object]) -> RewardTraining:
        """Train to the end, from the checkpoint if there is one; ``each_step(step, loss)`` is told of every step."""
        resumed = self._restore(checkpoints)
        self.model.train()
        evaluate_at = _spread(self.steps, self.settings.evaluations)
        save_at = _spread(self.steps, self.settings.checkpoints)
        window: list[tuple[float, float]] = []
        started = time.monotonic() - self.progress.seconds
        while self.progress.step < self.steps and not self.progress.stopped_early:
            window.append(self._step(self._groups_of(self.progress.step)))
            self.progress.step += 1
            each_step(self.progress.step, window[-1][0])
            if self.progress.step in evaluate_at:
                self._validate()
            at_end = self.progress.step == self.steps or self.progress.stopped_early
            if at_end or self.progress.step % max(1, self.steps // _CURVE_POINTS) == 0:
                self._plot(window)
                window = []
            self.progress.seconds = time.monotonic() - started
            if self.progress.step in save_at or at_end:
                checkpoints.save(self._state())
        if not self.best:
            checkpoints.clear()
            raise BadInputError(
                "training: the validation loss was never a finite number, the training diverged; lower "
                f"training.learning_rate (now {self.settings.learning_rate:g})"
            )
        with torch.no_grad():
            for name, value in self.best.items():
                self.weights[name].copy_(value)
        done = self.progress
        return RewardTraining(
            steps=done.step,
            best_step=done.best_step,
            stopped_early=done.stopped_early,
            resumed_from_step=resumed,
            seconds=done.seconds,
            tokens=done.tokens,
            precision=self.precision,
            device=torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            curve=[CurvePoint.model_validate(point) for point in done.curve],
            validation=[ValidationPoint.model_validate(point) for point in done.validation],
        )

    def _step(self, groups: Sequence[Group]) -> tuple[float, float]:
        loss, accuracy = self._loss(groups)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.weights.values(), self.settings.max_gradient_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), accuracy

    def _loss(self, groups: Sequence[Group]) -> tuple[Tensor, float]:
        """Mean loss of ``groups`` and their mean accuracy (NaN when every pair is a tie)."""
        batch = pad_groups(groups, self.pad_id)
        if self.model.training:
            self.progress.tokens += int(batch.mask_NT.sum())
        with self._autocast():
            scores = read_scores(
                scoring_module(self.model), batch.ids_NT.to(self.device), batch.mask_NT.to(self.device)
            )
        result = group_loss(
            scores,
            batch.pairs.to(self.device),
            batch.group_N.to(self.device),
            batch.groups,
            centering=self.settings.centering,
        )
        return result.loss_G.mean(), float(result.accuracy_G.nanmean())

    @torch.no_grad()
    def _validate(self) -> None:
        self.model.eval()
        losses, right, counted, size = [], 0.0, 0, self.settings.groups_per_step * 4
        for start in range(0, len(self.validation), size):
            groups = self.validation[start : start + size]
            loss, accuracy = self._loss(groups)
            losses.append(float(loss) * len(groups))
            if not math.isnan(accuracy):  # groups of ties alone have none
                right, counted = right + accuracy * len(groups), counted + len(groups)
        self.model.train()
        loss_mean = sum(losses) / len(self.validation)
        self.progress.validation.append(
            {"step": self.progress.step, "loss": loss_mean, "accuracy": right / counted if counted else math.nan}
        )
        if loss_mean < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_step = loss_mean, self.progress.step
            self.progress.without_improvement = 0
            self.best = {name: value.detach().clone() for name, value in self.weights.items()}
        else:
            self.progress.without_improvement += 1
            self.progress.stopped_early = self.progress.without_improvement >= self.settings.patience

    def _plot(self, window: Sequence[tuple[float, float]]) -> None:
        losses, accuracies = zip(*window, strict=True)
        self.progress.curve.append(
            {
                "step": self.progress.step,
                "loss": float(np.mean(losses)),
                "accuracy": float(np.nanmean(accuracies)),
                "learning_rate": float(self.scheduler.get_last_lr()[0]),
            }
        )

    def _groups_of(self, step: int) -> list[Group]:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.train))
        start = place * self.settings.groups_per_step
        return [self.train[index] for index in order[start : start + self.settings.groups_per_step]]

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _scheduler(self) -> Any:
        from transformers import get_scheduler

        warmup = round(self.steps * self.settings.warmup_share)
        return get_scheduler(
            self.settings.schedule, self.optimizer, num_warmup_steps=warmup, num_training_steps=self.steps
        )

    def _state(self) -> dict[str, Any]:
        return {
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "progress": asdict(self.progress),
        }

    def _restore(self, checkpoints: CheckpointFolder) -> int | None:
        state = checkpoints.load()
        if state is None:
            return None
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(state["weights"][name])
        self.best = {name: value.to(self.device) for name, value in state["best"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self.progress = Progress(**state["progress"])
        return self.progress.step


def _sample(groups: Sequence[Group], at_most: int | None, seed: int) -> list[Group]:
    if at_most is None or len(groups) <= at_most:
        return list(groups)
    chosen = np.random.default_rng(seed).choice(len(groups), at_most, replace=False)
    return [groups[index] for index in np.sort(chosen)]


def _spread(steps: int, times: int) -> set[int]:
    """``times`` step numbers, evenly spaced, the last of them ``steps``."""
    return {round(steps * (index + 1) / times) for index in range(times)} - {0}


def _precision(wanted: str, device: torch.device) -> str:
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # Emulated bfloat16 is slower than float32.
    return "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16") else "float32"
