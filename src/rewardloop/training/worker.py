"""What each of several processes runs: its part of a training or an alignment.

In: a folder or URL with ``job.json``. Out: the job's output, by the first process; ``error.json`` where the input is at
fault: whoever started the processes would only learn that one of them ended. As a command, its argument is that place.
"""

import os
import sys
from importlib import import_module
from typing import Any

from rewardloop.errors import BadInputError
from rewardloop.training.train_job_files import Exchange

_WORK = {
    "train_reward_model": ("rewardloop.training.fit", "FitJob", "fit_here"),
    "align_policy": ("rewardloop.training.align_job", "AlignJob", "align_here"),
}
"""Step -> module, job, function; a module imports much, and only one of them is needed."""


def work(step: str, fields: dict[str, Any]) -> None:
    """Do this process's part of the step's work."""
    module, job, function = _WORK[step]
    there = import_module(module)
    getattr(there, function)(getattr(there, job)(**fields))


def main(place: str) -> None:
    """Take the job from ``place``, do this process's part, give back what came of it."""
    exchange = Exchange(place)
    try:
        taken = exchange.take()
        work(taken.step, taken.fields)
        if taken.carried and os.environ.get("RANK", "0") == "0":
            exchange.give(taken.fields["output"])
    except BadInputError as refused:
        exchange.give_error(str(refused))
        raise SystemExit(refused.exit_code) from refused


if __name__ == "__main__":
    main(sys.argv[1])
