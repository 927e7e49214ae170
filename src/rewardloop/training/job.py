"""What the launcher, its workers and TrainJobs know of a job, whatever it does."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

MANIFESTS = "train-jobs"
"""Folder in a job's output where the manifests of its TrainJobs are kept."""
WORKER = "rewardloop.training.worker"


class Job(Protocol):
    """A dataclass of JSON values, with folders as texts."""

    @property
    def checkpoints(self) -> str:
        """Folder, or URL, of the checkpoints."""

    @property
    def output(self) -> str:
        """Folder of what is made."""

    def inputs(self) -> dict[str, str]:
        """What a node must be given: name -> folder; the field of the name's first part is then the node's copy."""


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """SIGTERM becomes SystemExit, so that what was started elsewhere is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
