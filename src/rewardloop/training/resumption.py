"""What a checkpoint holds of a training, and how a new process goes on from it at the exact step.

In: a ``CheckpointFolder`` and what is trained (model and optimizer as ``accelerate`` prepared them). Out: a state of
plain tensors and numbers, written by the first process; on the way back, everything as it was when it was saved.
"""

from dataclasses import asdict
from typing import Any

import torch

from rewardloop.config import EXECUTION, TrainingSettings
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.processes import Processes
from rewardloop.training.progress import Progress
from rewardloop.training.state import (
    Weights,
    optimizer_state,
    set_optimizer_state,
    set_trained_weights,
    trained_weights,
)


def about(settings: TrainingSettings, *, groups: int, trained_parameters: int) -> dict[str, Any]:
    """What a checkpoint must agree with: how the work is spread and cut into batches may change."""
    return {
        **settings.model_dump(mode="json", exclude=EXECUTION),
        "groups": groups,
        "trained weights": trained_parameters,
    }


class Resumption:
    """Saves one training and brings it back; every process of the training takes part in both."""

    def __init__(
        self,
        checkpoints: CheckpointFolder,
        about: dict[str, Any],
        *,
        model: Any,
        optimizer: Any,
        scheduler: Any,
        processes: Processes,
    ) -> None:
        self.checkpoints = checkpoints
        self.about = about
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.processes = processes

    def save(self, progress: Progress, best: Weights) -> None:
        """Write a checkpoint in place of the last one; ``best`` are the weights of the best validation loss."""
        processes, on_cuda = self.processes, self.processes.device.type == "cuda"
        state = {
            "about": self.about,
            "weights": trained_weights(self.model),
            "best": best,
            "optimizer": optimizer_state(self.model, _plain(self.optimizer)),
            "scheduler": self.scheduler.state_dict(),
            "random": processes.gather(torch.get_rng_state()),
            "random_cuda": processes.gather(torch.cuda.get_rng_state() if on_cuda else None),
            "progress": asdict(progress),
        }
        if processes.first:
            self.checkpoints.save(state)
        processes.wait()

    def restore(self) -> tuple[Progress, Weights] | None:
        """Put model, optimizer, schedule and random numbers back; None, and nothing changed, without a checkpoint.

        Returns:
            the progress, and the weights of the best validation loss until then.

        Raises:
            BadInputError: the checkpoint is of another training.
        """
        state = self.checkpoints.load(self.about)
        if state is None:
            return None
        set_trained_weights(self.model, state["weights"])
        set_optimizer_state(self.model, _plain(self.optimizer), state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        rank = self.processes.rank
        if rank < len(state["random"]):
            torch.set_rng_state(state["random"][rank])
            if self.processes.device.type == "cuda" and state["random_cuda"][rank] is not None:
                torch.cuda.set_rng_state(state["random_cuda"][rank])
        return Progress(**state["progress"]), state["best"]


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer without accelerate's wrapper."""
    plain: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return plain
