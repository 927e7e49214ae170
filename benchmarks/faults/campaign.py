"""The life of a home, from the first batch to a rollback, with kills on the way; and of as many homes as it takes.

In: how many kills. Out: how many there were, in which stages, and everything that was found wrong afterwards. A run of
minutes is killed several times, in later and later stages: each attempt goes on from the last.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient

from benchmarks.faults.findings import COUNTED, NAME, Findings, Truth, examine, truth_of
from benchmarks.faults.home import BATCH, Home, Probe, UnfinishedError
from benchmarks.faults.moments import DECISIONS, INGEST, Moment, durations, plan, stages

_KILLS_PER_HOME = 8
_WITHOUT_POLICY = ("--set", "align=")
_TEXTS, _TEXTS_FOR_ALIGNMENT = 400, 700
_NOT_DUE = "Not due"
_SHOWN = 20


@dataclass
class Tally:
    """All homes together."""

    by_step: Counter[str] = field(default_factory=Counter)
    problems: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in (*COUNTED, "unfinished")})
    leftovers: int = 0
    homes: int = 0
    trainings: int = 0


def disturb(kills: int, seed: int, folder: Path, *, align: bool) -> dict[str, Any]:
    """Kill as often as wanted; what became of it, as the benchmark prints it."""
    order = stages("retrain-and-align" if align else "retrain")
    overrides, texts = ((), _TEXTS_FOR_ALIGNMENT) if align else (_WITHOUT_POLICY, _TEXTS)
    undisturbed = Home(folder / "undisturbed", order, {}, overrides)
    seconds, truth = _undisturbed(undisturbed, texts)
    print("undisturbed: " + ", ".join(f"{stage} {took:.1f} s" for stage, took in seconds.items()), flush=True)
    tally, wave = Tally(), 0
    while (missing := kills - tally.by_step.total()) > 0:
        # Kills that came too late, because a command had ended, are made up for in further homes.
        for moments in plan(missing, order, -(-missing // _KILLS_PER_HOME), seed + wave):
            tally.homes += 1
            home = Home(folder / f"home-{tally.homes:03d}", order, seconds, overrides)
            home.prepare(texts)
            _one_home(home, moments, truth, tally, seed + tally.homes)
        wave += 1
        if wave > kills:
            raise UnfinishedError("no command runs long enough to be killed")
    return {
        "kills": tally.by_step.total(),
        **{name: len(found) for name, found in tally.problems.items()},
        "temporary_leftovers": tally.leftovers,
        "trainings_repeated": tally.trainings - tally.homes,
        "homes": tally.homes,
        "by_step": {stage: tally.by_step[stage] for stage in order},
        "problems": [f"{name}: {text}" for name, found in tally.problems.items() for text in found][:_SHOWN],
    }


def _one_home(home: Home, moments: Sequence[Moment], truth: Truth, tally: Tally, seed: int) -> None:
    """Live, be killed, finish, be looked at; a home in which something is wrong is kept."""
    name = home.folder.name
    try:
        found = live(home, moments, truth, np.random.default_rng([seed, 1]))
    except UnfinishedError as error:
        tally.problems["unfinished"].append(f"{name}: {error}")
        found = Findings({})
    tally.by_step.update(home.killed)
    tally.leftovers += found.leftovers
    tally.trainings += found.trainings or 1
    for count, texts in found.problems.items():
        tally.problems[count] += [f"{name}: {text}" for text in texts]
    wrong = [f"{count}: {text}" for count, texts in tally.problems.items() for text in texts if text.startswith(name)]
    print(f"{name}: {len(home.killed)} kills; " + ("; ".join(wrong) or "sound"), flush=True)
    if not wrong:
        shutil.rmtree(home.folder)


def live(home: Home, moments: Sequence[Moment], truth: Truth, random: np.random.Generator) -> Findings:
    """Everything that happens in a home.

    Raises:
        UnfinishedError: a command did not end well although nobody killed it.
    """
    _insist(home, home.command("ingest", BATCH), home.ingesting, _of(moments, INGEST))
    starts = (home.command("run"), home.command("trigger", "--once"))
    in_a_run = [moment for moment in moments if moment.stage not in (*INGEST, *DECISIONS)]
    for moment in in_a_run:
        _kill(home, starts[int(random.integers(2))], home.running(), moment)
    home.finish(starts[int(random.integers(2))], home.running())
    # A loop that runs by itself has nobody who starts a run by hand: what is still owed is the trigger's to do.
    said, _ = home.finish(starts[1], home.running())
    if _NOT_DUE not in said:
        raise UnfinishedError(f"a finished run was begun again: {said[-500:]}")
    champions, planted = ["1"], 0
    decisions = _of(moments, DECISIONS)
    if decisions:
        plant(home.tracking_uri)
        promote = home.command("promote", "2", "--reason", "as good")
        _insist(home, promote, lambda: home.deciding("promote", 2), _of(decisions, DECISIONS[:2]))
        back = home.command("rollback", "--to", "1", "--reason", "it blocks everything")
        done = "version 1 is the champion already"
        _insist(home, back, lambda: home.deciding("rollback", 3), _of(decisions, DECISIONS[2:]), accept=done)
        champions, planted = ["1", "2", "1"], 1
    return examine(home, truth, champions=champions, planted=planted)


def plant(tracking_uri: str) -> None:
    """A second version, equal to the first: what is promoted and rolled back need not be trained."""
    client = MlflowClient(tracking_uri)
    first = client.get_model_version(NAME, "1")
    tags = first.tags | {"blessed_against": "1", "rewardloop_run_id": "planted"}
    client.create_model_version(NAME, first.source, run_id=first.run_id, tags=tags)


def _undisturbed(home: Home, texts: int) -> tuple[dict[str, float], Truth]:
    """Seconds of each stage, and what a home holds in the end."""
    home.prepare(texts)
    _, ingested = home.finish(home.command("ingest", BATCH), home.ingesting())
    _, ran = home.finish(home.command("run"), home.running())
    truth = truth_of(home)
    plant(home.tracking_uri)
    _, promoted = home.finish(home.command("promote", "2", "--reason", "as good"), home.deciding("promote", 2))
    back = home.command("rollback", "--to", "1", "--reason", "it blocks everything")
    _, rolled = home.finish(back, home.deciding("rollback", 3))
    seconds: dict[str, float] = {}
    for entered in (ingested, ran, promoted, rolled):
        ended = entered.pop("end")
        seconds |= durations(entered, ended)
    missing = [stage for stage in home.order if stage not in seconds]
    if missing:
        raise UnfinishedError(f"the undisturbed run was never seen in {', '.join(missing)}")
    found = examine(home, truth, champions=["1", "2", "1"], planted=1)
    if not found.sound:
        raise UnfinishedError(f"without any kill: {json.dumps(found.problems)}")
    return seconds, truth


def _insist(
    home: Home, command: list[str], begin: Callable[[], Probe], moments: Sequence[Moment], accept: str = ""
) -> None:
    """Run a command, killed once for each moment, to its end."""
    for moment in moments:
        _kill(home, command, begin(), moment)
    home.finish(command, begin(), accept)


def _kill(home: Home, command: list[str], probe: Probe, moment: Moment) -> None:
    started = time.monotonic()
    killed = home.kill(command, probe, moment)
    wanted = f"{moment.stage} + {moment.share * home.seconds[moment.stage]:.2f} s"
    what = f"killed in {home.killed[-1]}" if killed else "had ended before"
    group = "all processes" if moment.whole_group else "the command alone"
    print(
        f"{home.folder.name}: {command[3]} {what} ({wanted}, {group}) after {time.monotonic() - started:.1f} s",
        flush=True,
    )


def _of(moments: Sequence[Moment], wanted: Sequence[str]) -> list[Moment]:
    return [moment for moment in moments if moment.stage in wanted]
