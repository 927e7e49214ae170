"""How far a training is and what it has seen: kept in every checkpoint, told at the end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rewardloop.evidence import CurvePoint, ValidationPoint
from rewardloop.modeling.scoring import Reading
from rewardloop.training.hardware import Usage


@dataclass
class Sums:
    """Over the groups of a step or a split."""

    loss: float = 0.0
    right: float = 0.0
    margin: float = 0.0
    decided: float = 0.0
    """Groups with at least one pair that is not a tie."""

    @property
    def accuracy(self) -> float:
        """Mean over the decided groups; NaN without any."""
        return self.right / self.decided if self.decided else math.nan

    @property
    def mean_margin(self) -> float:
        """Mean of better minus worse score; NaN without any decided group."""
        return self.margin / self.decided if self.decided else math.nan


@dataclass
class Progress:
    """Everything about a run that a checkpoint must bring back, besides weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    """Without padding; a shared prompt counts once."""
    positions: int = 0
    """With padding."""
    operations: float = 0.0
    """Useful floating-point operations."""
    best_step: int = 0
    best_loss: float = math.inf
    without_improvement: int = 0
    stopped_early: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    right_before: list[int] | None = None
    """Of each watched group, before the first step: decided pairs in the right order."""

    def plot(self, window: Sequence[tuple[float, float, float]], learning_rate: float) -> None:
        """Add a point to the curve: the mean (loss, accuracy, margin) of the steps since the last one."""
        losses, accuracies, margins = (np.array(values) for values in zip(*window, strict=True))
        self.curve.append(
            {
                "step": self.step,
                "loss": float(np.mean(losses)),
                "accuracy": _mean_of_known(accuracies),
                "margin": _mean_of_known(margins),
                "learning_rate": learning_rate,
            }
        )

    def validated(self, sums: Sums, groups: int, patience: int) -> bool:
        """Note what validation on ``groups`` groups showed; True when its loss is the best so far."""
        loss = sums.loss / groups
        self.validation.append({"step": self.step, "loss": loss, "accuracy": sums.accuracy, "margin": sums.mean_margin})
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.without_improvement = loss, self.step, 0
            return True
        self.without_improvement += 1
        self.stopped_early = self.without_improvement >= patience
        return False


@dataclass(frozen=True)
class RewardTraining(Usage):
    """How a training went; the names are those of ``evidence.TrainingEvidence``."""

    steps: int
    best_step: int
    stopped_early: bool
    resumed_from_step: int | None
    seconds: float
    tokens: int
    padding_share: float
    reading: str
    reading_reason: str
    frozen_layers_kept: int
    curve: list[CurvePoint]
    validation: list[ValidationPoint]

    @classmethod
    def of(
        cls,
        done: Progress,
        usage: Usage,
        reading: Reading,
        *,
        resumed_from_step: int | None,
        frozen_layers_kept: int,
    ) -> "RewardTraining":
        """Of a training that got as far as ``done``."""
        return cls(
            **vars(usage),
            steps=done.step,
            best_step=done.best_step,
            stopped_early=done.stopped_early,
            resumed_from_step=resumed_from_step,
            seconds=done.seconds,
            tokens=done.tokens,
            padding_share=1 - done.tokens / max(done.positions, 1),
            reading=reading.kind,
            reading_reason=reading.reason,
            frozen_layers_kept=frozen_layers_kept,
            curve=[CurvePoint.model_validate(point) for point in done.curve],
            validation=[ValidationPoint.model_validate(point) for point in done.validation],
        )


def _mean_of_known(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
