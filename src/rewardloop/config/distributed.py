"""Section on work beyond one process: how many processes of a machine, and how many nodes of a cluster.

In: the section ``distributed`` of a configuration. Nothing here changes a model but for rounding, so it is no part of
the digest of a configuration.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewardloop.config.base import Positive, Section
from rewardloop.config.placement import StepPlacement

Above0 = Annotated[float, Field(gt=0)]

_NOT_OF_NODES = ("image_pull_policy", "retries", "time_limit_seconds", "cache")


class DistributedSettings(Section):
    """How training and alignment are spread."""

    processes: Positive | None = None
    """Processes of each machine. None: one per GPU, else one. For the reward model, ``training.processes`` goes
    before it."""
    nodes: Positive = 1
    """Above 1: the steps below are TrainJobs of so many nodes, on a cluster with Kubeflow Trainer."""
    steps: tuple[Literal["train_reward_model", "align_policy"], ...] = ("train_reward_model", "align_policy")
    """With ``nodes``: which steps go to them; the others stay in their own pod."""
    exchange: str | None = None
    """With ``nodes``: a folder that step and nodes both reach, for inputs, checkpoints and outputs: ``s3://``,
    ``gs://``, or ``file://`` on a shared volume that is mounted at one path in the step and in ``node.volumes``."""
    runtime: str = "torch-distributed"
    """Name of the TrainingRuntime or ClusterTrainingRuntime."""
    node: StepPlacement = StepPlacement()
    """What each node is given, in the words of ``placement``; image and secrets are those of the step's own container
    where none are set here."""
    start_minutes: Above0 = 60.0
    """How long a TrainJob may wait for its nodes before the step gives up and deletes it."""
    deadline_hours: Above0 | None = None
    """The cluster ends a TrainJob that is older; None: never."""
    outage_minutes: Above0 = 10.0
    """How long the Kubernetes API may be away while a TrainJob is waited for."""
    poll_seconds: Above0 = 5.0
    """How often a TrainJob is looked at."""
    last_lines: Positive = 20
    """So many of each failed node's last lines are part of the step's error."""

    @model_validator(mode="after")
    def _nodes_need_a_folder(self) -> Self:
        if self.nodes > 1 and not self.exchange:
            raise ValueError(
                f"nodes = {self.nodes} needs exchange: a URL that the step and all nodes reach, "
                "s3://bucket/trainjobs for example"
            )
        for name in _NOT_OF_NODES:
            if getattr(self.node, name) is not None:
                raise ValueError(f"node.{name}: nodes of a TrainJob have no such setting; take it out")
        if self.node.accelerators and not self.node.accelerator:
            raise ValueError(
                f"node: accelerators = {self.node.accelerators}, but accelerator names no resource; set it to "
                "nvidia.com/gpu, for example"
            )
        return self

    @property
    def processes_per_node(self) -> int:
        """Processes of each node of a TrainJob."""
        return self.processes or self.node.accelerators or 1
