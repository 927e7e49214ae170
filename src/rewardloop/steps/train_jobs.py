"""The manifests of the TrainJobs of a step, kept with the run, also where the step failed.

In: the step's output folder, where they were written. Out: the same files in the folder of the run.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rewardloop.steps.step_run import StepRun
from rewardloop.training.job import MANIFESTS


@contextmanager
def keeping_train_jobs(run: StepRun, output: Path) -> Iterator[None]:
    """Copy manifests that the body leaves in ``output`` into the run's folder."""
    try:
        yield
    finally:
        for folder in run.folders:
            if folder != output and (output / MANIFESTS).is_dir():
                shutil.copytree(output / MANIFESTS, folder / MANIFESTS, dirs_exist_ok=True)
