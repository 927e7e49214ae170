"""Evidence of a run and of each of its steps."""

from typing import Literal

from pydantic import Field

from rewardloop.evidence.base import Evidence


class StepRecord(Evidence):
    """What happened to one step of one run; KFP itself loses exit codes and causes."""

    step: str
    status: Literal["running", "finished", "failed", "cached"]
    started_at: str
    seconds: float | None = None
    """Of the step's own work; its start-up is counted apart."""
    startup_seconds: float | None = None
    """From the start of the step's process to its own work: Python, KFP's executor, libraries."""
    cpu_seconds: float | None = None
    """Of the step's own work, its child processes included."""
    startup_cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    """Resident, the sum over the step's process and its children; pages that they share count in each."""
    peak_gpu_memory_bytes: int | None = None
    """Allocated by the step's own process, over all its devices; None: it used none."""
    produced: str = ""
    error: str | None = None
    exit_code: int | None = None


class RunRecord(Evidence):
    """One pipeline run, as the report sees it."""

    run_id: str
    pipeline: Literal["retrain", "retrain-and-align"] = "retrain"
    """Which steps the run has."""
    organization: str
    corpus_digest: str
    config_digest: str
    trigger_reason: str = ""
    """Why the run was started, for people."""
    again: str | None = None
    """Why the same corpus is trained once more under the same configuration."""
    attempt: int = 1
    """More than 1 where earlier attempts at this run were cut short; what they finished was kept."""
    started_at: str
    """When the first attempt began."""
    seconds: float | None = None
    """Of the latest attempt."""
    status: Literal["running", "blessed", "not blessed", "failed"] = "running"
    closed: bool = False
    """Everything is written: outcome, report, and the end of the run in MLflow."""
    mlflow_run_id: str | None = None
    tracking_uri: str | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    """Flattened setting -> value."""
    origins: dict[str, str] = Field(default_factory=dict)
    """Flattened setting -> where the value came from."""
