"""The overhead is the run without its steps' own work, worked by hand."""

from pathlib import Path

import pytest

from benchmarks.overhead import above_imports, image_sizes, measure_docker, overhead
from rewardloop.evidence import StepRecord


def step(name: str, seconds: float, cpu: float, startup: float) -> StepRecord:
    return StepRecord(
        step=name, status="finished", started_at="", seconds=seconds, cpu_seconds=cpu,
        startup_seconds=startup, startup_cpu_seconds=startup / 2,
    )  # fmt: skip


def test_what_is_left_without_the_steps_own_work() -> None:
    found = overhead([step("load_corpus", 1.0, 0.5, 0.8), step("train", 5.0, 8.0, 2.0)], wall=10.0, cpu=11.5)
    assert found["seconds_per_step"] == 2.0
    assert found["cpu_seconds_per_step"] == 1.5
    assert found["startup_seconds_per_step"] == 1.4
    assert found["startup_cpu_seconds_per_step"] == 0.7
    assert found["startup_seconds"] == {"load_corpus": 0.8, "train": 2.0}
    assert found["startup_cpu_seconds"] == {"load_corpus": 0.4, "train": 1.0}


def test_imports_that_nobody_can_spare_a_step_are_taken_off() -> None:
    run = {
        "seconds_per_step": 5.0,
        "cpu_seconds_per_step": 4.0,
        "startup_seconds": {"train": 7.0, "load": 1.0},
        "startup_cpu_seconds": {"train": 3.0, "load": 1.0},
        "steps": 2,
    }
    imports = {"train": {"seconds": 6.0, "cpu_seconds": 5.0}}
    # Of processor time no more can be spared than the start took.
    assert above_imports(run, imports) == {"seconds_per_step": 2.0, "cpu_seconds_per_step": 2.5}


def test_without_an_engine_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert image_sizes("rewardloop-cpu:dev") == "skipped: no container engine"
    assert measure_docker("rewardloop-cpu:dev", tmp_path, []) == {"skipped": "no container engine"}
