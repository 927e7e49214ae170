"""One launcher of training and alignment: in this process, in several of this machine, or on several nodes.

In: the name of a step, its job, how it is to be spread. Out: what the job leaves in its output folder. Processes of a
machine are started by ``torch.distributed.run``, which is also what ``accelerate launch`` starts; nodes are a TrainJob
of Kubeflow Trainer, whose pods start the same command. What any process found wrong is raised here.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rewardloop.config import DistributedSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.training.job import WORKER, Job, ended_by_signal

_SECONDS_TO_END = 30


def run(step: str, job: Job, settings: DistributedSettings, processes: int) -> None:
    """Do the work of ``step``; a killed call goes on from its checkpoints.

    Args:
        step: ``train_reward_model`` or ``align_policy``.
        job: what to do.
        settings: whether it is for other nodes.
        processes: of this machine, where it is not.

    Raises:
        BadInputError: what any of the processes found wrong, or a cluster that cannot do it.
        RewardloopError: a process or a node ended otherwise.
    """
    Path(job.output).mkdir(parents=True, exist_ok=True)
    if on_nodes(step, settings):
        from rewardloop.training.train_job import run_train_job

        run_train_job(step, job, settings)
    elif processes == 1:
        from rewardloop.training.worker import work

        work(step, asdict(job))  # type: ignore[call-overload]
    else:
        _run_here(step, job, processes)


def on_nodes(step: str, settings: DistributedSettings) -> bool:
    """Whether the step's work is for other nodes."""
    return settings.nodes > 1 and step in settings.steps


def _run_here(step: str, job: Job, processes: int) -> None:
    # The job goes by a file: an argument of a process has a limit that a list of groups can exceed.
    with tempfile.TemporaryDirectory(prefix="rewardloop-") as folder, ended_by_signal():
        told = {"step": step, "job": asdict(job), "carried": []}  # type: ignore[call-overload]
        (Path(folder) / "job.json").write_text(json.dumps(told), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        # Processes that share the cores of one machine must not each take all of them.
        threads = str(max(1, (os.cpu_count() or 1) // processes))
        status = _wait(
            subprocess.Popen(  # noqa: S603  our own module
                [*command, "-m", WORKER, folder], env={"OMP_NUM_THREADS": threads} | os.environ
            )
        )
        error = Path(folder) / "error.json"
        if error.is_file():
            raise BadInputError(json.loads(error.read_text(encoding="utf-8"))["error"])
    if status:
        raise RewardloopError(
            f"{step}: one of {processes} processes ended with status {status}; its own message is above"
        )


def _wait(process: "subprocess.Popen[bytes]") -> int:
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
