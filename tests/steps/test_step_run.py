"""What a step leaves behind: evidence handed on, and how it went, also when it failed or was taken from the cache."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewardloop.errors import BadInputError, NotBlessedError
from rewardloop.evidence import CorpusEvidence, StepRecord
from rewardloop.steps.step_run import run_folder, step_run

CORPUS = CorpusEvidence(digest="d", batches=[], groups=3, labels=9)


def record(folder: Path, step: str) -> StepRecord:
    return StepRecord.model_validate_json((folder / "steps" / f"{step}.json").read_bytes())


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def test_evidence_travels_from_step_to_step(tmp_path: Path, run_dir: Path) -> None:
    with step_run("load_corpus", output=tmp_path / "corpus") as run:
        run.write("corpus", CORPUS)
        run.produced = "3 groups"
    with step_run("validate_feedback", inputs=[tmp_path / "corpus"], output=tmp_path / "validated"):
        pass
    for folder in (run_dir, tmp_path / "validated"):
        assert CorpusEvidence.model_validate_json((folder / "evidence" / "corpus.json").read_bytes()) == CORPUS
        assert record(folder, "load_corpus").produced == "3 groups"
        assert record(folder, "validate_feedback").status == "finished"


def test_a_cached_step_is_known_by_what_it_left(tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with step_run("load_corpus", output=tmp_path / "corpus") as run:
        run.produced = "3 groups"
    later = tmp_path / "later"
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(later))
    with step_run("validate_feedback", inputs=[tmp_path / "corpus"], output=tmp_path / "validated"):
        pass
    assert record(later, "load_corpus").status == "cached"
    assert record(later, "load_corpus").produced == "3 groups"
    assert record(run_dir, "load_corpus").status == "finished"


def test_failures_keep_their_words_and_exit_code(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(NotBlessedError), step_run("register_models", output=tmp_path / "out"):
        raise NotBlessedError("not blessed")
    failed = record(run_dir, "register_models")
    assert (failed.status, failed.error, failed.exit_code) == ("failed", "not blessed", 3)
    with pytest.raises(ZeroDivisionError), step_run("load_corpus", output=tmp_path / "out"):
        raise ZeroDivisionError("a defect")
    assert record(run_dir, "load_corpus").error == "ZeroDivisionError: a defect"
    assert record(run_dir, "load_corpus").exit_code == 1


def test_a_full_disk_is_bad_input_with_the_file(tmp_path: Path, run_dir: Path) -> None:
    with (
        pytest.raises(BadInputError, match="/data/x: No space left on device; free space"),
        step_run("build_preferences", output=tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device", "/data/x")
    assert record(run_dir, "build_preferences").exit_code == 2


def test_a_step_that_is_killed_stays_running(tmp_path: Path, run_dir: Path) -> None:
    with step_run("train_reward_model", output=tmp_path / "out"):
        assert record(run_dir, "train_reward_model").status == "running"


def test_what_a_step_took_is_in_its_record(tmp_path: Path, run_dir: Path) -> None:
    with step_run("train_reward_model", output=tmp_path / "out"):
        held = bytearray(80_000_000)
        until = time.process_time() + 0.05
        while time.process_time() < until:
            held[0] ^= 1
    found = record(run_dir, "train_reward_model")
    assert found.cpu_seconds is not None
    assert found.cpu_seconds >= 0.04
    assert found.peak_memory_bytes is not None
    assert found.peak_memory_bytes > 80_000_000
    assert found.peak_gpu_memory_bytes is None


def test_children_count_and_the_start_up_is_told_apart(tmp_path: Path) -> None:
    """A process of its own, as steps have: its start-up is not the step's work, the memory of its child is."""
    child = "x = bytearray(150_000_000); import time; time.sleep(2.5)"
    code = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from rewardloop.steps.step_run import step_run\n"
        f"with step_run('train_reward_model', output=Path({str(tmp_path)!r})):\n"
        f"    subprocess.run([sys.executable, '-c', {child!r}], check=True)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    found = record(tmp_path, "train_reward_model")
    assert found.peak_memory_bytes is not None
    assert found.peak_memory_bytes > 150_000_000
    assert found.startup_seconds is not None
    assert found.startup_seconds > 0.05
    assert found.seconds is not None
    assert found.seconds > 2.4
    assert found.cpu_seconds is not None
    assert found.cpu_seconds < found.seconds


def test_the_log_says_when_a_step_began_and_ended(
    tmp_path: Path, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NotBlessedError), step_run("register_models", output=tmp_path / "out"):
        raise NotBlessedError("not blessed")
    started, failed = caplog.records
    assert started.getMessage() == "register_models started"
    assert failed.getMessage() == "register_models failed: not blessed"
    assert failed.__dict__["fields"]["exit_code"] == 3


def test_on_a_cluster_the_run_lies_in_the_volume_that_steps_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REWARDLOOP_RUN_DIR", "REWARDLOOP_HOME", "KFP_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert run_folder() is None
    monkeypatch.setenv("KFP_RUN_ID", "run-7")
    assert run_folder() is None, "no volume is shared"
    monkeypatch.setenv("REWARDLOOP_HOME", str(tmp_path))
    assert run_folder() == tmp_path / "runs" / "run-7"
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(tmp_path / "local"))
    assert run_folder() == tmp_path / "local"
