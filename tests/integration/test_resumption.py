"""A run that is killed at any moment and started again is the same run: nothing is done twice, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rewardloop.operation.claims import read_claims
from rewardloop.storage import Storage
from tests.integration.test_loop import Workplace

pytestmark = pytest.mark.timeout(1800)
SEED = 6
NO_POLICY = ("--set", "align=")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose one run was killed five times, the last time when only its report was missing."""
    workplace = Workplace(tmp_path_factory.mktemp("killed"))
    assert workplace.ingest("first.csv", texts=400, seed=1).returncode == 0
    home = workplace.folder / ".rewardloop"
    moments: list[tuple[str, float, bool]] = [
        ("store/claims/*.json", 1.0, False),
        ("runs/*/steps/train_reward_model.json", 3.0, False),
        ("runs/*/steps/register_models.json", 1.0, True),
        ("store/history/*.json", 0.0, False),
        ("store/claims/*.outcome.json", 0.0, False),
    ]
    random = np.random.default_rng(SEED)
    for attempt, (files, longest, steps_too) in enumerate(moments, start=1):
        _run_and_kill(workplace, attempt, partial(_files, home, files), random.uniform(0, longest), steps_too)
    return workplace


def _files(home: Path, pattern: str) -> list[Path]:
    return list(home.glob(pattern))


def _run_and_kill(
    workplace: Workplace, attempt: int, reached: Callable[[], list[Path]], seconds: float, steps_too: bool
) -> None:
    """Kill the command with SIGKILL some time after this attempt has reached a moment.

    Its steps go on alone, unless they are killed too, as when the machine goes down.
    """
    before = {path: path.stat().st_mtime_ns for path in reached()}
    with (workplace.folder / f"attempt-{attempt}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rewardloop.cli.main", "run", *NO_POLICY],
            cwd=workplace.folder,
            env=workplace.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 600
        while process.poll() is None and time.monotonic() < deadline:
            if any(before.get(path) != _changed(path) for path in reached()):
                break
            time.sleep(0.002)
        time.sleep(seconds)
        (os.killpg if steps_too else os.kill)(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, Path(log.name).read_text()


def _changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


@pytest.fixture(scope="module")
def finished(workplace: Workplace) -> str:
    """What the command says when it is started once more."""
    done = workplace.rewardloop("run", *NO_POLICY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_attempts_were_one_run(workplace: Workplace, finished: str) -> None:
    assert finished.startswith("Nothing new")
    assert len(workplace.runs) == 1
    (claim,) = read_claims(Storage.open(str(workplace.folder / ".rewardloop" / "store")))
    assert (claim.state, claim.run_id, claim.attempt) == ("finished", workplace.runs[0].name, 5)
    assert claim.outcome is not None
    assert (claim.outcome.status, claim.outcome.version) == ("blessed", "1")
    record = json.loads((workplace.runs[0] / "run.json").read_text())
    assert (record["status"], record["closed"], record["attempt"]) == ("blessed", True, 5)
    assert record["trigger_reason"] == "started by hand: rewardloop run"
    report = (workplace.runs[0] / "report.html").read_text()
    assert "Attempt 5; what earlier ones finished was kept." in report
    assert "smoke-reward version 1" in report


def test_nothing_was_made_twice(workplace: Workplace, finished: str) -> None:
    del finished
    client = workplace.client
    assert [str(version.version) for version in client.search_model_versions("name = 'smoke-reward'")] == ["1"]
    assert str(client.get_model_version_by_alias("smoke-reward", "champion").version) == "1"
    history = sorted((workplace.folder / ".rewardloop" / "store" / "history").glob("*.json"))
    assert [path.name for path in history] == ["00000001.json"]
    (experiment,) = client.search_experiments(filter_string="name = 'smoke'")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert parents[0].data.tags["rewardloop.trigger"] == "started by hand: rewardloop run"
    assert not [run.info.run_name for run in runs if run.info.status == "RUNNING"]


def test_finished_steps_were_kept(workplace: Workplace, finished: str) -> None:
    """The attempts after the third found the trained candidate in the cache."""
    del finished
    steps = workplace.steps()
    assert steps["train_reward_model"] == steps["evaluate_reward_model"] == "cached"
    assert steps["register_models"] == "finished"
    trained = list((workplace.folder / ".rewardloop" / "pipelines").glob("retrain-*/train-reward-model/reward_model"))
    whole = [folder for folder in trained if (folder / "parity.json").is_file()]
    assert len(whole) == 1


def test_nobody_works_on_and_nothing_is_half_written(workplace: Workplace, finished: str) -> None:
    del finished
    folder = str(workplace.runs[0])
    left: list[Any] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("REWARDLOOP_RUN_DIR") == folder:
                left.append(process)
        except psutil.Error:
            continue
    assert left == []
    for path in (workplace.folder / ".rewardloop" / "store").rglob("*.json"):
        json.loads(path.read_bytes())
