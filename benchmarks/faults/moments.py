"""When a process is killed: how many kills, in which stages, how long after the stage began.

In: numbers of kills, a seed, and how long each stage took where nobody was killed. Out: ``Moment``s. Everything here is
arithmetic; ``home`` waits for the moments.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rewardloop.reporting.run_evidence import PIPELINES, REPORT_STEP

INGEST = ("ingest", "ingest_commit")
"""The command begins; it has begun to write to the store."""
DECISIONS = ("promote", "promote_aliases", "rollback")
"""The command begins; the history has the promotion; the command begins."""
CLAIM, PROMOTION, OUTCOME = "claim", "promotion", "outcome"
"""Stages of a run that are no step: until the first step begins; from the history's record until the registration ends;
after the last step: the claim's outcome, the report, the end of MLflow's run."""

_STARTED = re.compile(r"Executing task '([\w-]+)'")
_FINISHED = re.compile(rf"Task '{REPORT_STEP.replace('_', '-')}' finished")
_CACHED = re.compile(r"Task ([\w-]+) cache hit")


@dataclass(frozen=True)
class Moment:
    """A kill: ``share`` of the stage's time after the stage began, of the whole group of processes or of one."""

    stage: str
    share: float
    whole_group: bool
    """The steps are killed too, as when the machine goes down; else they go on alone."""


def stages(pipeline: str) -> tuple[str, ...]:
    """Every stage in which a process can be killed, in their order."""
    return (*INGEST, CLAIM, *PIPELINES[pipeline], PROMOTION, REPORT_STEP, OUTCOME, *DECISIONS)


def plan(kills: int, order: Sequence[str], homes: int, seed: int) -> list[list[Moment]]:
    """Kills for each home, in the order of their stages; every stage has its share of them, give or take one.

    Args:
        kills: all together.
        order: the stages.
        homes: how many places share them.
        seed: other seeds give other moments.
    """
    random = np.random.default_rng([seed, kills, homes])
    wanted: list[str] = []
    while len(wanted) < kills:
        wanted += random.permutation(list(order)).tolist()
    drawn = [
        Moment(stage, float(random.uniform()), whole_group=number // homes % 2 == 0)
        for number, stage in enumerate(wanted[:kills])
    ]
    return [sorted(drawn[place::homes], key=lambda one: (order.index(one.stage), one.share)) for place in range(homes)]


def stage_of_run(log: str, *, promoted: bool) -> str:
    """Where a run is.

    Args:
        log: what KFP has said in this attempt.
        promoted: the history has the run's version.
    """
    known = {step for steps in PIPELINES.values() for step in steps} | {REPORT_STEP}
    begun = [task.replace("-", "_") for task in _STARTED.findall(log)]
    begun = [step for step in begun if step in known]
    if _FINISHED.search(log):
        return OUTCOME
    if not begun:
        cached = [step for task in _CACHED.findall(log) if (step := task.replace("-", "_")) in known]
        return cached[-1] if cached else CLAIM
    return PROMOTION if promoted and begun[-1] == "register_models" else begun[-1]


def durations(entered: Mapping[str, float], ended: float) -> dict[str, float]:
    """Seconds in each stage, from the moments at which the stages were entered."""
    order = sorted(entered, key=lambda stage: entered[stage])
    ends = [entered[stage] for stage in order[1:]] + [ended]
    return {stage: end - entered[stage] for stage, end in zip(order, ends, strict=True)}
