"""`rewardloop golden`: what is taken, and how worn the golden set is shown to be."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rewardloop.cli.main import app
from rewardloop.evaluation.golden_wear import level_of_use
from rewardloop.evidence import Estimate
from rewardloop.feedback.golden import use_golden
from rewardloop.storage import Storage
from tests import run_folders


def prompted(path: Path, name: str, count: int) -> Path:
    rows = [
        {
            "group_id": f"{name}{number}",
            "prompt": [{"role": "user", "content": f"{name} question {number}"}],
            "responses": [{"response_id": "a", "content": "yes"}, {"response_id": "b", "content": "no"}],
            "labels": [{"kind": "choice", "labeler": "anna", "chosen": "a", "rejected": "b"}],
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rewardloop.yaml"
    settings = {
        "organization": "acme",
        "home": str(tmp_path / "home"),
        "store": {"url": str(tmp_path / "store")},
        "model": {"base": "random:tiny"},
        "splits": {"golden": 0.25, "anchors": 3},
        "gate": {"golden_uses": 4, "not_worse_than_champion_by": 0.02},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def said(*line: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in line])
    assert result.exit_code == 0, result.output
    return result.output


def test_add_says_what_was_taken_and_why_not(tmp_path: Path, config: Path) -> None:
    said("ingest", prompted(tmp_path / "first.jsonl", "first", 40), "-c", config)
    mixed = prompted(tmp_path / "mixed.jsonl", "first", 41)
    output = said("golden", "add", mixed, "-c", config)
    assert "1 groups of 1 documents taken into the golden set" in output
    assert "30 refused: its prompt or document came with a batch before, and may have been trained on" in output
    assert "mixed.jsonl:" in output
    assert "nothing was taken into the golden set; 30 refused" in said("golden", "add", mixed, "-c", config)


def test_add_takes_house_made_columns(tmp_path: Path, config: Path) -> None:
    said("ingest", prompted(tmp_path / "first.jsonl", "first", 40), "-c", config)
    path = tmp_path / "house.csv"
    path.write_text("question,one,two,better\nHow are you?,Fine.,Bad.,a\n")
    columns = "prompt=question,response_a=one,response_b=two,verdict=better"
    output = said("golden", "add", path, "--format", "pairwise", "--map", columns, "-c", config)
    assert "1 groups of 1 documents taken into the golden set" in output


def test_show_counts_generations_and_uses(tmp_path: Path, config: Path) -> None:
    assert "no golden set yet" in said("golden", "show", "-c", config)
    said("ingest", prompted(tmp_path / "first.jsonl", "first", 40), "-c", config)
    storage = Storage.open(str(tmp_path / "store"))
    for number in range(3):
        use_golden(storage, f"c{number}")
    output = said("golden", "show", "-c", config)
    assert "10 documents  used 3 times  in use" in output
    assert "The next use is number 4, judged at level 0.9975." in output
    assert "Fresh golden labels are due at use 4." in output
    use_golden(storage, "c3")
    assert "due: the golden set was used 4 times; gate.golden_uses is 4" in said("golden", "show", "-c", config)
    said("golden", "add", prompted(tmp_path / "fresh.jsonl", "fresh", 10), "-c", config)
    output = said("golden", "show", "-c", config)
    assert "10 documents  used 4 times  not used any more" in output
    assert "10 documents  used 0 times  in use" in output
    assert "The next use is number 1, judged at level 0.9750." in output


def leave_run(tmp_path: Path, started: datetime) -> None:
    """The newest run measured the golden set at its second use: half-width 0.05."""
    folder = run_folders.blessed_run(tmp_path / "home" / "runs" / "20991121T101500-c0c0c0c0")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"started_at": started.isoformat()}))
    evaluation = run_folders.evaluation()
    assert evaluation.champion is not None
    measured = Estimate(value=0.0, low=-0.05, high=0.05, level=level_of_use(0.95, 2), count=10)
    champion = evaluation.champion.model_copy(update={"golden_difference": measured})
    changed = evaluation.model_copy(update={"champion": champion})
    (folder / "evidence" / "evaluation.json").write_text(changed.model_dump_json())


def test_show_tells_when_the_interval_outgrows_the_margin(tmp_path: Path, config: Path) -> None:
    said("ingest", prompted(tmp_path / "first.jsonl", "first", 40), "-c", config)
    for number in range(2):
        use_golden(Storage.open(str(tmp_path / "store")), f"c{number}")
    now = datetime.now(UTC)
    leave_run(tmp_path, now + timedelta(hours=1))
    # z is 2.6383 at use 2, 2.8653 at use 3 and 2.2414 at use 1: 0.05 becomes 0.0543; (0.04248 / 0.02)^2 x 10 = 45.1.
    output = said("golden", "show", "-c", config)
    assert "the interval reaches 0.054 to either side, more than the margin of 0.02" in output
    assert "Add a file of 46 fresh groups or more" in output


def test_a_run_from_before_the_golden_set_changed_says_nothing_of_it(tmp_path: Path, config: Path) -> None:
    said("ingest", prompted(tmp_path / "first.jsonl", "first", 40), "-c", config)
    leave_run(tmp_path, datetime.now(UTC) - timedelta(hours=1))
    assert "Fresh golden labels are due at use 4." in said("golden", "show", "-c", config)
