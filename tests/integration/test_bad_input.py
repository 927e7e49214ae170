"""What a user can get wrong: exit code 2, a message with place, value and mend, and nothing half-written."""

import gzip
import json
import os
from pathlib import Path

import pytest

from rewardloop.cli import main as command
from tests.smoke_data import write_ratings

CONFIG = Path("conf/smoke.yaml").resolve()
HEADER = "id,text,ratings\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REWARDLOOP_CONFIG", str(CONFIG))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def rewardloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command, run in this process."""
    monkeypatch.setattr("sys.argv", ["rewardloop", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.csv", None, "missing.csv: cannot be read"),
        ("unknown.csv", b"foo,bar\n1,2\n", "format not recognized; found a table with the columns foo, bar"),
        ("truncated.gz", gzip.compress(HEADER.encode() * 100, mtime=0)[:-20], "the gzip file is truncated"),
        ("latin.csv", HEADER.encode() + b'1,caf\xe9,"[1]"\n', "latin.csv:2: byte 21 (0xe9) is not UTF-8"),
        ("empty.csv", b"", "is empty; expected rows of feedback"),
        ("header.csv", HEADER.encode(), "holds a header and no rows"),
        ("nan.csv", HEADER.encode() + b'1,a,"[1,NaN]"\n', "nan.csv:2: ratings: found nan; expected a finite number"),
        ("inf.csv", HEADER.encode() + b'1,a,"[-Infinity]"\n', "ratings: found -inf; expected a finite number"),
        ("twice.csv", HEADER.encode() + b'1,a,"[1]"\n1,b,"[1]"\n', "id '1' comes with"),
        ("long.csv", HEADER.encode() + b"1," + b"x" * 10_000_000 + b',"[1]"\n', "10,000,000"),
    ],
)
def test_unusable_files(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    says: str,
) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    assert rewardloop(monkeypatch, "ingest", name) == 2
    assert says in capsys.readouterr().err
    store = folder / ".rewardloop" / "store"
    assert not store.exists() or not [path for path in store.rglob("*") if path.is_file()]


def test_five_mistakes_are_listed_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.yaml").write_text(
        "organization: No Spaces Please\nmodel: {}\ntraining: {epochs: -1, methods: lora}\nthreshold: {alpha: 2}\n"
    )
    assert rewardloop(monkeypatch, "config", "check", "bad.yaml") == 2
    error = capsys.readouterr().err
    assert "5 mistakes" in error
    for place in ("organization", "model.base", "training.epochs", "training.methods", "threshold.alpha"):
        assert f"  {place}: " in error


def test_nothing_to_train_on(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert rewardloop(monkeypatch, "run") == 2
    assert "start with: rewardloop ingest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "align.prompts: prompts.jsonl: cannot be read"),
        ('{"prompt": "a"}\n{"question": "b"}\n', "align.prompts: prompts.jsonl: row 2: the prompt is missing"),
    ],
)
def test_unusable_prompts_leave_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None, says: str
) -> None:
    write_ratings(folder / "batch.csv", texts=50, seed=0)
    assert rewardloop(monkeypatch, "ingest", "batch.csv") == 0
    if content is not None:
        (folder / "prompts.jsonl").write_text(content)
    assert rewardloop(monkeypatch, "run", "--set", "align.prompts=prompts.jsonl") == 2
    assert says in capsys.readouterr().err
    assert not (folder / ".rewardloop" / "runs").exists()


def test_server_that_does_not_answer_leaves_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ratings(folder / "batch.csv", texts=50, seed=0)
    assert rewardloop(monkeypatch, "ingest", "batch.csv") == 0
    assert rewardloop(monkeypatch, "run", "--set", "align=", "--set", "tracking.uri=http://127.0.0.1:9") == 2
    assert "no MLflow server answered at http://127.0.0.1:9" in capsys.readouterr().err
    assert not (folder / ".rewardloop" / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_store(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_ratings(folder / "batch.csv", texts=50, seed=0)
    (folder / "closed").mkdir(mode=0o500)
    assert rewardloop(monkeypatch, "ingest", "batch.csv", "--set", "store.url=closed/store") == 2
    assert "correct the permissions" in capsys.readouterr().err


def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_ratings(folder / "batch.csv", texts=50, seed=0)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert rewardloop(monkeypatch, "ingest", "batch.csv") == 2
    assert "No space left on device; free space" in capsys.readouterr().err
    assert not list((folder / ".rewardloop").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["score"], "give either --text (once or more) or --file"),
        (["score", "--text", "x"], "there is no champion yet"),
        (["score", "--file", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["accept", "abc", "--reason", "x"], "batch 'abc': no such batch"),
        (["ingest", "x.csv", "--column", "text"], "--column 'text': expected NAME=VALUE"),
    ],
)
def test_wrong_arguments(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    assert rewardloop(monkeypatch, *arguments) == 2
    assert says in capsys.readouterr().err


def test_file_without_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "answers.jsonl").write_text(json.dumps({"text": "x"}) + "\n")
    assert rewardloop(monkeypatch, "score", "--file", "answers.jsonl") == 2
    assert "no column response; found ['text']" in capsys.readouterr().err
