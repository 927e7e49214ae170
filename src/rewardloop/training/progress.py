"""How far a training is and what it has seen: kept in every checkpoint, told at the end."""

import math
from dataclasses import dataclass, field

from rewardloop.evidence import CurvePoint, ValidationPoint


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


@dataclass(frozen=True)
class RewardTraining:
    """How a training went; the names are those of ``evidence.TrainingEvidence``."""

    steps: int
    best_step: int
    stopped_early: bool
    resumed_from_step: int | None
    seconds: float
    tokens: int
    padding_share: float
    precision: str
    device: str
    processes: int
    reading: str
    reading_reason: str
    frozen_layers_kept: int
    utilization: float
    peak_flops: float
    peak_flops_source: str
    peak_memory_bytes: int
    curve: list[CurvePoint]
    validation: list[ValidationPoint]
