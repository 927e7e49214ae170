"""`rewardloop gate --explain`: a finished run judged again, under the configuration's limits, with nothing changed."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from rewardloop.cli.gate import find_run
from rewardloop.cli.main import app
from rewardloop.errors import BadInputError
from rewardloop.evidence import Blessing
from tests import run_folders

OLD, NEW = "20990101T101500-c0c0c0c0", "20990201T101500-c0c0c0c0"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rewardloop.yaml"
    settings = {
        "organization": "film-reviews",
        "home": str(tmp_path / "home"),
        "store": {"url": str(tmp_path / "store")},
        "model": {"base": "random:tiny"},
        "gate": {"min_accuracy": 0.8, "not_worse_than_champion_by": 0.5, "max_leaked_items": None},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, and one that ended before anything was evaluated."""
    folder = tmp_path / "home" / "runs"
    run_folders.blessed_run(folder / OLD)
    run_folders.blessed_run(folder / NEW)
    run_folders.failed_run(folder / "20990301T101500-c0c0c0c0")
    return folder


def explained(config: Path, *line: str) -> Result:
    return CliRunner().invoke(app, ["gate", "--explain", "-c", str(config), *line])


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_newest_run_is_explained_and_nothing_is_changed(tmp_path: Path, config: Path, runs: Path) -> None:
    before = everything(tmp_path)
    result = explained(config)
    assert result.exit_code == 0, result.output
    assert everything(tmp_path) == before
    lines = result.output.splitlines()
    header = next(line for line in lines if line.startswith("check "))
    assert header.split() == ["check", "value", "interval", "limit", "passed", "reason"]
    accuracy = run_folders.evaluation().accuracy
    line = next(line for line in lines if line.startswith("accuracy on test pairs"))
    assert f"{accuracy.value:.3f}" in line
    assert f"{accuracy.low:.3f} to {accuracy.high:.3f}" in line
    assert "0.8" in line
    assert "yes" in line
    assert "is at least 0.8." in line
    assert "reward model: would be blessed" in result.output


def test_other_limits_give_another_verdict(config: Path, runs: Path) -> None:
    result = explained(config, OLD, "--set", "gate.min_accuracy=0.99")
    assert result.exit_code == 3
    line = next(line for line in result.output.splitlines() if line.startswith("accuracy on test pairs"))
    assert " NO " in line
    assert "reward model: would not be blessed" in result.output
    assert "is not at least 0.99." in result.output


def test_without_limits_nothing_would_be_blessed(config: Path, runs: Path) -> None:
    result = explained(config, "--set", "gate.min_accuracy=null")
    assert result.exit_code == 3
    assert "No limit is configured" in result.output


def test_json_is_a_blessing(config: Path, runs: Path) -> None:
    result = explained(config, "--json", "--set", "gate.min_accuracy=0.99")
    assert result.exit_code == 3
    blessing = Blessing.model_validate_json(result.output)
    assert not blessing.blessed
    assert blessing.corpus_digest == "c0" * 32
    assert [check.limit for check in blessing.checks if check.name == "accuracy on test pairs"] == [0.99]


def test_a_folder_may_be_named(config: Path, runs: Path, tmp_path: Path) -> None:
    elsewhere = run_folders.blessed_run(tmp_path / "elsewhere")
    assert explained(config, str(elsewhere)).exit_code == 0


def test_the_policy_is_judged_too(config: Path, tmp_path: Path) -> None:
    run_folders.aligned_run(tmp_path / "home" / "runs" / OLD)
    changed = yaml.safe_load(config.read_text()) | {"align": {"prompts": str(tmp_path / "prompts.jsonl")}}
    config.write_text(yaml.safe_dump(changed))
    result = explained(config, "--set", "gate.min_accuracy=0.99")
    assert result.exit_code == 3
    assert "policy: would not be blessed" in result.output
    assert "The reward model that it was aligned to was not blessed." in result.output


def test_a_hostile_name_does_not_steer_the_terminal(config: Path, runs: Path) -> None:
    place = runs / NEW / "evidence" / "evaluation.json"
    evidence = json.loads(place.read_text())
    evidence["champion"]["version"] = "1\x1b[2J"
    place.write_text(json.dumps(evidence))
    assert "\x1b" not in explained(config).output


def test_what_cannot_be_explained_is_named(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no run has evaluated a candidate yet"):
        find_run(tmp_path / "nowhere", None)
    with pytest.raises(BadInputError, match=f"is neither a run of .*; the latest: {NEW}, {OLD}"):
        find_run(runs, "unknown")
    with pytest.raises(BadInputError, match="ended before its candidate was evaluated; name another run"):
        find_run(runs, "20990301T101500-c0c0c0c0")
    (runs / NEW / "evidence" / "evaluation.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"no evaluation to judge: .*Field required"):
        find_run(runs, NEW)


def test_only_the_dry_run_exists(config: Path, runs: Path) -> None:
    result = CliRunner().invoke(app, ["gate", "-c", str(config)])
    assert isinstance(result.exception, BadInputError)
    assert "rewardloop gate --explain" in str(result.exception)
