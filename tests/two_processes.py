"""Tiny policies learn, in as many processes as ``torch.distributed.run`` started; to be compared with one process.

``python -m tests.two_processes BASE FOLDER SETTINGS``: settings are a JSON object of sections ``align`` by name;
process R leaves what it learnt under them in ``FOLDER/R/result.pt``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from rewardloop.config import AlignSettings
from rewardloop.training.processes import Alone, Processes
from tests.policies import run, trainer_of, vowels, weights_of

PROMPTS = ("a", "bc", "def", "ghi", "e")


def learn(base: Path, folder: Path, settings: AlignSettings, processes: Alone | None = None) -> dict[str, Any]:
    """Train by a rule that needs no reward model; gives what must not depend on the number of processes."""
    trainer = trainer_of(folder, base, settings, vowels, train=PROMPTS)
    if processes is not None:
        trainer.processes = trainer.learner.processes = processes
    last: dict[str, Any] = {}
    progress = run(trainer, folder, lambda point: last.update(weights_of(trainer))).progress
    names = ("update", "curve", "validation", "samples", "tokens")
    return {"best": weights_of(trainer), "last": last} | {name: getattr(progress, name) for name in names}


if __name__ == "__main__":
    together = Processes(cpu=True)
    here = Path(sys.argv[2]) / str(together.rank)
    found = {
        name: learn(Path(sys.argv[1]), here / name, AlignSettings.model_validate(settings), together)
        for name, settings in json.loads(sys.argv[3]).items()
    }
    torch.save(found, here / "result.pt")
    together.wait()
