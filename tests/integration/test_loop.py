"""The whole loop, as a user runs it: the command line, KFP's local runner, MLflow on SQLite, a tiny model."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient

from tests.smoke_data import write_ratings

CONFIG = Path("conf/smoke.yaml").resolve()
PROMPTS = CONFIG.with_name("smoke-prompts.jsonl")
pytestmark = pytest.mark.timeout(900)  # a run is a dozen processes that each import their libraries
ALIGNMENT = ("check_reward_gate", "train_sft", "generate_references", "align_policy", "evaluate_policy")


class Workplace:
    """A folder with a store of its own, and the command run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The configuration names its prompts from where the command is run.
        (folder / "conf").mkdir()
        shutil.copy(PROMPTS, folder / "conf")
        self.environment = os.environ | {"COLUMNS": "200", "REWARDLOOP_CONFIG": str(CONFIG)}
        for name in ("REWARDLOOP_HOME", "REWARDLOOP_RUN_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            self.environment.pop(name, None)

    def rewardloop(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rewardloop.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )

    def ingest(self, name: str, **data: int | bool) -> subprocess.CompletedProcess[str]:
        return self.rewardloop("ingest", str(write_ratings(self.folder / name, **data)))  # type: ignore[arg-type]

    @property
    def runs(self) -> list[Path]:
        return sorted((self.folder / ".rewardloop" / "runs").iterdir())

    def evidence(self, name: str, run: int = -1) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.runs[run] / "evidence" / f"{name}.json").read_text())
        return content

    def steps(self, run: int = -1) -> dict[str, str]:
        """Step -> status."""
        records = (json.loads(path.read_text()) for path in (self.runs[run] / "steps").glob("*.json"))
        return {record["step"]: record["status"] for record in records}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder / '.rewardloop' / 'mlflow.db'}")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace after its first batch and run."""
    workplace = Workplace(tmp_path_factory.mktemp("loop"))
    taken = workplace.ingest("first.csv", texts=700, seed=1)
    assert taken.returncode == 0, taken.stderr
    done = workplace.rewardloop("run")
    assert done.returncode == 0, done.stdout + done.stderr
    workplace.first_output = done.stdout  # type: ignore[attr-defined]
    return workplace


def test_a_batch_becomes_a_champion_with_a_threshold(loop: Workplace) -> None:
    version = loop.client.get_model_version_by_alias("smoke-reward", "champion")
    assert str(version.version) == "1"
    evaluation = loop.evidence("evaluation")
    threshold = evaluation["threshold"]
    assert isinstance(threshold, dict)
    assert threshold["certified"]
    assert float(version.tags["threshold"]) == pytest.approx(threshold["threshold"])
    assert (loop.runs[0] / "report.html").stat().st_size > 20_000


def test_a_policy_is_registered_with_its_reward_model(loop: Workplace) -> None:
    version = loop.client.get_model_version_by_alias("smoke-policy", "champion")
    assert str(version.version) == "1"
    assert version.tags["reward_model"] == "models:/smoke-reward/1"
    assert loop.evidence("registration", 0)["policy"]["version"] == "1"
    assert loop.evidence("blessing", 0)["policy"]["blessed"] is True
    assert loop.evidence("alignment", 0)["algorithm"] == "ppo"
    assert loop.evidence("policy_evaluation", 0)["prompts"] > 0
    assert json.loads((loop.runs[0] / "run.json").read_text())["pipeline"] == "retrain-and-align"
    report = (loop.runs[0] / "report.html").read_text()
    assert "<h2>The policy</h2>" in report
    assert "smoke-policy version 1" in report
    assert "smoke-policy version 1" in loop.first_output  # type: ignore[attr-defined]


def test_every_step_says_what_it_produced(loop: Workplace) -> None:
    model = ("load_corpus", "validate_feedback", "build_preferences", "train_reward_model", "register_models")
    for step in (*model, *ALIGNMENT):
        assert re.search(rf"^  {step} +\d+\.\d s  \S", loop.first_output, re.MULTILINE), step  # type: ignore[attr-defined]
    assert "Try next:" in loop.first_output  # type: ignore[attr-defined]


def test_champion_prefers_the_better_answer(loop: Workplace) -> None:
    scored = loop.rewardloop("score", "--text", "good good good film", "--text", "bad bad bad film")
    assert scored.returncode == 0, scored.stderr
    good, bad, last = scored.stdout.splitlines()[-3:]
    assert "accept" in good
    assert "block" in bad
    assert last.startswith("threshold")


def test_file_of_answers_gives_mean_share_and_worst(loop: Workplace) -> None:
    answers = loop.folder / "answers.jsonl"
    answers.write_text("".join(json.dumps({"response": text}) + "\n" for text in ("good good film", "bad bad film")))
    scored = loop.rewardloop("score", "--file", str(answers), "--output", str(loop.folder / "scores.jsonl"))
    assert scored.returncode == 0, scored.stderr
    assert "accepted         50.0%" in scored.stdout
    assert scored.stdout.index("bad bad") > scored.stdout.index("worst answers")
    assert len((loop.folder / "scores.jsonl").read_text().splitlines()) == 2


def test_nothing_new_trains_nothing(loop: Workplace) -> None:
    before = len(loop.runs)
    again = loop.rewardloop("ingest", "first.csv")
    assert "nothing new" in again.stdout
    started = time.monotonic()
    done = loop.rewardloop("run")
    assert done.returncode == 0
    assert done.stdout.startswith("Nothing new")
    assert time.monotonic() - started < 20  # a run takes minutes
    assert len(loop.runs) == before


def test_a_refused_policy_leaves_its_reward_model_registered(loop: Workplace) -> None:
    """For another organization, with a limit that no policy meets: all but the verdict is taken from the cache."""
    limits = ("--set", "organization=strict", "--set", "gate.policy.min_reward_gain=100")
    done = loop.rewardloop("run", *limits)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "The policy was not blessed, nor registered" in done.stdout
    assert {name: loop.steps()[name] for name in ALIGNMENT[1:]} == dict.fromkeys(ALIGNMENT[1:], "cached")
    assert loop.evidence("blessing")["blessed"] is True
    assert loop.evidence("registration")["policy"] is None
    names = {model.name for model in loop.client.search_registered_models()}
    assert names == {"smoke-reward", "smoke-policy", "strict-reward"}
    # The answers are there all the same, for people to judge.
    assert (loop.runs[-1] / "policy-answers.parquet").is_file()


@pytest.fixture(scope="module")
def compared(loop: Workplace) -> subprocess.CompletedProcess[str]:
    """The run after people compared the first policy with its reference and rated more texts; it makes no policy."""
    first = loop.runs[0].name
    # A policy that knows nothing writes control characters, which nobody can read and no store takes in.
    answers = loop.runs[0] / "policy-answers.parquet"
    readable = pl.col("reference", "policy").str.replace_all(r"[\p{C}\p{Z}\ufffd]", "x")
    pl.read_parquet(answers).with_columns(readable).write_parquet(answers)
    wanted = ("--kind", "policy-comparison", "--count", "6", "--output", "tasks", "--run", first)
    exported = loop.rewardloop("export-tasks", *wanted)
    assert exported.returncode == 0, exported.stdout + exported.stderr
    finished = loop.folder / "project-1.json"
    finished.write_text(json.dumps(_labeled(json.loads((loop.folder / "tasks" / "tasks.json").read_text()))))
    taken = loop.rewardloop("ingest", str(finished))
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert loop.ingest("second.csv", texts=300, seed=2).returncode == 0
    return loop.rewardloop("run", "--set", "align=")


def _labeled(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two people, who agree: the left answer and the right one in turns."""
    export = []
    for number, task in enumerate(tasks):
        side = {"selected": "left" if number % 2 else "right"}
        result = [{"type": "pairwise", "from_name": "comparison", "value": side}]
        annotations = [
            {"id": 10 * number + who, "completed_by": who, "result": result, "created_at": "2026-11-21T12:00:00Z"}
            for who in (1, 2)
        ]
        export.append({"id": number, "data": task["data"], "annotations": annotations, "drafts": []})
    return export


def test_what_people_said_of_the_policy_is_in_the_next_run(
    loop: Workplace, compared: subprocess.CompletedProcess[str]
) -> None:
    assert compared.returncode in (0, 3), compared.stdout + compared.stderr
    (found,) = loop.evidence("corpus")["comparisons"]
    assert found["policy"] == json.loads((loop.runs[0] / "policy-answers.json").read_text())["policy"]
    assert (found["prompts"], found["labels"], found["labelers"]) == (6, 12, 2)
    assert found["wins"] + found["losses"] == 6
    assert "What people said of earlier policies" in (loop.runs[-1] / "report.html").read_text()


def test_second_batch_is_compared_with_the_champion(
    loop: Workplace, compared: subprocess.CompletedProcess[str]
) -> None:
    done = compared
    assert done.returncode in (0, 3), done.stdout + done.stderr
    comparison = loop.evidence("evaluation")["champion"]
    assert isinstance(comparison, dict)
    assert comparison["version"] == "1"
    assert "champion" in done.stdout
    # Training went on from the champion, or says why not; only what is new and a replay was trained on.
    warm = loop.evidence("training")["warm_start"]
    assert isinstance(warm, dict)
    assert warm["champion"] == "models:/smoke-reward/1"
    assert warm["new_groups"] > 0
    assert warm["replayed_groups"] == round(warm["new_groups"] / 2)
    assert warm["old_test"]["pairs"] > 100
    assert ("Trained on from the champion" if warm["used"] else "Trained from the base") in done.stdout
    blessed = loop.evidence("blessing")["blessed"]
    champion = loop.client.get_model_version_by_alias("smoke-reward", "champion").version
    assert str(champion) == ("2" if blessed else "1")
    # Without the section align the policy stays as it is.
    assert json.loads((loop.runs[-1] / "run.json").read_text())["pipeline"] == "retrain"
    assert str(loop.client.get_model_version_by_alias("smoke-policy", "champion").version) == "1"


def test_flipped_labels_are_refused(tmp_path: Path) -> None:
    """Half of the batch says the opposite: nobody can learn from that, and nothing may be registered."""
    workplace = Workplace(tmp_path)
    right = write_ratings(tmp_path / "right.csv", texts=350, seed=3)
    wrong = write_ratings(tmp_path / "wrong.csv", texts=350, seed=4, flipped=True)
    assert workplace.rewardloop("ingest", str(right), str(wrong)).returncode == 0
    done = workplace.rewardloop("run")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Not blessed" in done.stdout
    assert workplace.evidence("blessing")["blessed"] is False
    assert workplace.client.search_registered_models() == []
    assert "Not blessed" in (workplace.runs[0] / "report.html").read_text()
    # Alignment was never started.
    steps = workplace.steps()
    assert steps["check_reward_gate"] == steps["decide_promotion"] == "finished"
    assert not set(ALIGNMENT[1:]) & steps.keys()
    assert "Alignment was not started: the reward gate failed." in done.stdout


def test_stopping_the_run_ends_its_steps_and_leaves_the_report(tmp_path: Path) -> None:
    import psutil

    workplace = Workplace(tmp_path)
    assert workplace.ingest("batch.csv", texts=700, seed=5).returncode == 0
    slow = ["--set", "training.epochs=500", "--set", "training.patience=1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rewardloop.cli.main", "run", *slow],
        cwd=tmp_path,
        env=workplace.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 400
    record = "train_reward_model.json"
    while not list((tmp_path / ".rewardloop").glob(f"runs/*/steps/{record}")) and time.monotonic() < deadline:
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert children
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), output
    assert "train_reward_model" in (workplace.runs[0] / "report.html").read_text()
