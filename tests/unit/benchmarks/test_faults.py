"""Kills are planned evenly and told from one another; what a kill left half done is found."""

import json
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.faults.__main__ import main
from benchmarks.faults.findings import _files
from benchmarks.faults.home import Home, write_ratings
from benchmarks.faults.moments import Moment, durations, plan, stage_of_run, stages

ORDER = stages("retrain")


def test_every_stage_has_its_share_of_the_kills() -> None:
    homes = plan(50, ORDER, 7, seed=6)
    assert [len(moments) for moments in homes] == [8, 7, 7, 7, 7, 7, 7]
    counts = Counter(moment.stage for moments in homes for moment in moments)
    assert set(counts) == set(ORDER)
    assert max(counts.values()) - min(counts.values()) <= 1
    for moments in homes:
        places = [ORDER.index(moment.stage) for moment in moments]
        assert places == sorted(places)
        alone = sum(not moment.whole_group for moment in moments)
        assert abs(2 * alone - len(moments)) <= 1
    assert {type(moment.stage) for moments in homes for moment in moments} == {str}
    assert all(0 <= moment.share < 1 for moments in homes for moment in moments)
    assert plan(50, ORDER, 7, seed=6) == homes
    assert plan(50, ORDER, 7, seed=7) != homes


def test_stages_of_both_pipelines() -> None:
    assert ORDER[:5] == ("ingest", "ingest_commit", "claim", "check_prerequisites", "load_corpus")
    assert ORDER[-7:] == (
        "register_models", "promotion", "publish_report", "outcome", "promote", "promote_aliases", "rollback",
    )  # fmt: skip
    assert {"align_policy", "check_reward_gate"} == set(stages("retrain-and-align")) - set(ORDER) - {
        "train_sft", "generate_references", "evaluate_policy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("log", "promoted", "stage"),
    [
        ("", False, "claim"),
        ("INFO - Executing task 'load-corpus'\n", False, "load_corpus"),
        ("Executing task 'load-corpus'\nTask 'load-corpus' finished with status SUCCESS\n", False, "load_corpus"),
        ("Task load-corpus cache hit (key=1)\nTask validate-feedback cache hit (key=2)\n", False, "validate_feedback"),
        ("Task load-corpus cache hit (key=1)\nExecuting task 'train-reward-model'\n", False, "train_reward_model"),
        ("Executing task 'decide-promotion'\nExecuting task 'condition-1'\n", False, "decide_promotion"),
        ("Executing task 'register-models'\n", False, "register_models"),
        ("Executing task 'register-models'\n", True, "promotion"),
        ("Executing task 'register-models'\nExecuting task 'publish-report'\n", True, "publish_report"),
        ("Executing task 'publish-report'\nTask 'publish-report' finished with status SUCCESS\n", True, "outcome"),
    ],
)
def test_where_a_run_is(log: str, promoted: bool, stage: str) -> None:
    assert stage_of_run(log, promoted=promoted) == stage


def test_durations_are_from_one_stage_to_the_next() -> None:
    assert durations({"ingest_commit": 12.5, "ingest": 10.0}, 13.0) == {"ingest": 2.5, "ingest_commit": 0.5}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, ORDER, {"claim": 0.0, "train_reward_model": 60.0})


def _child(seconds: float) -> list[str]:
    return [sys.executable, "-S", "-c", f"import time; print('begun', flush=True); time.sleep({seconds})"]


def test_a_command_is_killed_in_its_stage_or_has_ended_before(home: Home) -> None:
    assert home.kill(_child(60), lambda: "claim", Moment("claim", 0.5, whole_group=True))
    # A later stage is as good: the wanted one was taken from the cache.
    assert home.kill(_child(60), lambda: "outcome", Moment("claim", 0.5, whole_group=False))
    assert not home.kill(_child(0), lambda: "claim", Moment("train_reward_model", 0.5, whole_group=True))
    assert home.killed == ["claim", "outcome"]


def test_an_ingest_commits_from_its_first_file_on(home: Home) -> None:
    (home.store / "batches").mkdir(parents=True)
    (home.store / "batches" / "of an attempt before").write_text("")
    stage = home.ingesting()
    assert stage() == "ingest"
    (home.store / "splits.json").write_text("{}")
    assert stage() == "ingest_commit"


def test_a_run_is_followed_from_where_its_attempt_begins(home: Home) -> None:
    log = home.inside / "runs" / "first" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("Executing task 'train-reward-model'\n")
    stage = home.running()
    assert stage() == "claim"
    with log.open("a") as stream:
        stream.write("Task load-corpus cache hit (key=1)\n    Executing task 'publish-report', a step said\n")
    assert stage() == "load_corpus"
    with log.open("a") as stream:
        stream.write("12:00:00.000 - INFO - Executing task 'register-models'\n")
    assert stage() == "register_models"
    (home.store / "history").mkdir(parents=True)
    (home.store / "history" / "00000001.json").write_text('{"name": "smoke-policy"}')
    assert stage() == "register_models"
    (home.store / "history" / "00000002.json").write_text('{"name": "smoke-reward"}')
    assert stage() == "promotion"


def test_what_is_half_written_is_found(home: Home) -> None:
    batch, run = home.store / "batches" / ("a" * 64), home.inside / "runs" / "first"
    batch.mkdir(parents=True)
    run.mkdir(parents=True)
    pl.DataFrame({"a": [1]}).write_parquet(batch / "records.parquet")
    references = home.store / "references" / ("b" * 64)
    references.mkdir(parents=True)
    pl.DataFrame({"a": [1]}).write_parquet(references / f"{'c' * 64}.parquet")
    (batch / "manifest.json").write_text("{}")
    (batch / ".tmp-x").write_text("{")
    (run / "run.json").write_text(json.dumps({"closed": True, "status": "blessed"}))
    (run / "report.html").write_text("<html></html>\n")
    assert list(_files(home)) == []
    (batch / "manifest.json").unlink()
    (batch / "records.parquet").write_bytes(b"PAR1")
    (home.store / "splits.json").write_text('{"format": 1')
    (home.store / "history").mkdir()
    (home.store / "history" / "1.json").write_text("{}")
    (run / "report.html").write_text("<html>")
    (run / "run.json").write_text(json.dumps({"closed": False, "status": "running"}))
    found = "\n".join(_files(home))
    for words in (
        "records.parquet: parquet: ",
        "aaaaaaaaaaaa has only ['records.parquet']",
        "splits.json: ",
        "history/1.json: nobody reads such a file",
        "report.html: has no end",
        "run.json: running, closed: False",
    ):
        assert words in found
    assert len(found.splitlines()) == 6


def test_the_same_feedback_everywhere(tmp_path: Path) -> None:
    write_ratings(tmp_path / "a.csv", 30)
    write_ratings(tmp_path / "b.csv", 30)
    write_ratings(tmp_path / "c.csv", 30, seed=2)
    frames = [pl.read_csv(tmp_path / name) for name in ("a.csv", "b.csv", "c.csv")]
    assert frames[0].equals(frames[1])
    assert not frames[0].equals(frames[2])
    assert frames[0].shape == (30, 3)
    assert all(len(json.loads(ratings)) == 5 for ratings in frames[0]["ratings"])


def test_unknown_parts_are_refused() -> None:
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, ["--only", "kills,rest"])
    assert done.exit_code == 2
    assert "rest: expected some of kills, triggers, promotions" in " ".join(done.output.split())
