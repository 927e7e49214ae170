"""``rewardloop export-tasks``: which run it takes, what it writes, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from rewardloop.cli.export_tasks import export_tasks
from rewardloop.errors import BadInputError
from rewardloop.feedback.comparisons import ANSWERS, LABELING_CONFIG, load_key
from rewardloop.storage import Storage

OLD, NEW = "20261101T080000-aaaaaaaa-0001", "20261102T080000-bbbbbbbb-0002"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rewardloop.yaml"
    home, store = tmp_path / "home", tmp_path / "store"
    path.write_text(f"organization: acme\nhome: {home}\nstore: {{url: {store}}}\nmodel: {{base: random:tiny}}\n")
    return path


def answers(count: int = 12, **columns: list[Any]) -> pl.DataFrame:
    rows = [
        {"prompt": [{"role": "user", "content": f"q{n}"}], "reference": f"plain {n}", "policy": f"aligned {n}"}
        for n in range(count)
    ]
    return pl.DataFrame(rows, schema=ANSWERS).with_columns(**{name: pl.Series(v) for name, v in columns.items()})


def leave_run(tmp_path: Path, run_id: str, frame: pl.DataFrame | None = None, about: str | None = None) -> Path:
    """A run's folder as the evaluation of a policy leaves it."""
    folder = tmp_path / "home" / "runs" / run_id
    (folder / "evidence").mkdir(parents=True)
    (folder / "evidence" / "policy_evaluation.json").write_text("{}")
    (answers() if frame is None else frame).write_parquet(folder / "policy-answers.parquet")
    (folder / "policy-answers.json").write_text(
        about or json.dumps({"policy": f"digest of {run_id}", "run_id": run_id})
    )
    return folder


def export(config: Path, output: Path, count: int = 5, **options: Any) -> list[dict[str, Any]]:
    export_tasks("policy-comparison", count, output, config, None, **options)
    tasks: list[dict[str, Any]] = json.loads((output / "tasks.json").read_text())
    return tasks


def test_the_newest_evaluated_policy_is_taken_and_what_to_do_next_is_said(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_run(tmp_path, OLD)
    leave_run(tmp_path, NEW)
    (tmp_path / "home" / "runs" / "20261103T080000-cccccccc-0003").mkdir()  # a run without a policy
    output = tmp_path / "new" / "tasks"
    tasks = export(config, output)
    assert len(tasks) == 5
    assert (output / "labeling-config.xml").read_text() == LABELING_CONFIG
    key = load_key(Storage.open(str(tmp_path / "store")), tasks[0]["data"]["comparison"])
    assert (key.run_id, key.policy, key.seed, key.count) == (NEW, f"digest of {NEW}", 0, 5)
    assert set(key.tasks) == {task["data"]["task"] for task in tasks}
    said = capsys.readouterr().out
    assert f"5 comparisons of policy digest of 20 with its reference (run {NEW})\n" in said
    assert f"Import: {output / 'tasks.json'}" in said
    assert f"rewardloop ingest EXPORT.json -c {config}" in said
    assert str(output / "labeling-config.xml") in said


def test_another_run_can_be_named(tmp_path: Path, config: Path) -> None:
    leave_run(tmp_path, OLD)
    leave_run(tmp_path, NEW)
    tasks = export(config, tmp_path / "out", run=OLD)
    key = load_key(Storage.open(str(tmp_path / "store")), tasks[0]["data"]["comparison"])
    assert key.run_id == OLD
    with pytest.raises(BadInputError, match=f"--run nope: .* the latest that did: {NEW}, {OLD}"):
        export(config, tmp_path / "other", run="nope")


def test_the_same_command_writes_the_same_files_and_another_seed_needs_a_new_folder(
    tmp_path: Path, config: Path
) -> None:
    leave_run(tmp_path, NEW)
    output = tmp_path / "out"
    assert export(config, output) == export(config, output)
    keys = tmp_path / "store" / "comparisons"
    assert len(list(keys.iterdir())) == 1
    with pytest.raises(BadInputError, match=r"--output .*: tasks.json is there with other content; name a new folder"):
        export(config, output, seed=1)
    assert len(list(keys.iterdir())) == 1
    export(config, tmp_path / "second", seed=1)
    assert len(list(keys.iterdir())) == 2


def test_what_cannot_be_compared_is_said(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = answers(4)
    same = frame.with_columns(policy=pl.when(pl.int_range(4) == 0).then("reference").otherwise("policy"))
    leave_run(tmp_path, NEW, same)
    assert len(export(config, tmp_path / "out", count=9)) == 3
    said = capsys.readouterr().out
    assert "(9 were asked for, no more can be compared); left out: 1 where both answers are the same" in said


def test_without_an_evaluated_policy_nothing_is_written(tmp_path: Path, config: Path) -> None:
    with pytest.raises(BadInputError, match="no run has evaluated a policy yet; add a section align"):
        export(config, tmp_path / "out")
    folder = leave_run(tmp_path, NEW)
    (folder / "evidence" / "policy_evaluation.json").unlink()  # it stopped before its evaluation was done
    with pytest.raises(BadInputError, match="no run has evaluated a policy yet"):
        export(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("about", ["{}", "[]", "nonsense", '{"policy": "x"}'])
def test_a_run_that_does_not_name_its_policy_is_refused(tmp_path: Path, config: Path, about: str) -> None:
    leave_run(tmp_path, NEW, about=about)
    with pytest.raises(BadInputError, match=r"policy-answers.json: cannot be read .* expected policy and run_id"):
        export(config, tmp_path / "out")


def test_answers_of_another_shape_are_refused(tmp_path: Path, config: Path) -> None:
    folder = leave_run(tmp_path, NEW, answers().rename({"policy": "own"}))
    with pytest.raises(BadInputError, match="column policy: found nothing; expected String"):
        export(config, tmp_path / "out")
    (folder / "policy-answers.parquet").write_bytes(b"no parquet")
    with pytest.raises(BadInputError, match=r"policy-answers.parquet: cannot be read"):
        export(config, tmp_path / "out")


def test_an_output_that_is_a_file_is_refused_and_no_key_is_kept(tmp_path: Path, config: Path) -> None:
    leave_run(tmp_path, NEW)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInputError, match=r"--output .*out: File exists; name a folder that can be written"):
        export(config, tmp_path / "out")
    assert not (tmp_path / "store").exists()


def test_the_options_of_the_command(tmp_path: Path, config: Path) -> None:
    app = typer.Typer()
    app.command("export-tasks")(export_tasks)
    leave_run(tmp_path, NEW)
    line = ["--kind", "policy-comparison", "--count", "3", "--output", str(tmp_path / "out"), "--seed", "7"]
    result = CliRunner().invoke(app, [*line, "--run", NEW, "-c", str(config)])
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "out" / "tasks.json").read_text())) == 3
    assert CliRunner().invoke(app, [*line[:3], "0", *line[4:], "-c", str(config)]).exit_code == 2
    assert CliRunner().invoke(app, ["--kind", "other", *line[2:], "-c", str(config)]).exit_code == 2
