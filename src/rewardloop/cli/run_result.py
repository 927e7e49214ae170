"""How a wish to train ended, for whoever had it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["blessed", "not blessed", "failed", "nothing new", "claimed elsewhere", "submitted"]


@dataclass(frozen=True)
class RunResult:
    """How a wish to train ended; ``run_id`` and ``report`` are those of the run that has the corpus."""

    kind: Kind
    exit_code: int
    run_id: str | None = None
    report: Path | None = None
