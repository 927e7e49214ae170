"""``rewardloop evaluate``: a language model's answers to prompts, measured by a registered reward model."""

import json
from pathlib import Path

import pytest

from rewardloop.cli import main as command
from rewardloop.tracking.connection import connect
from tests.registered import make_candidate

CONFIG = Path("conf/smoke.yaml").resolve()


@pytest.fixture(scope="module")
def home(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one registered reward model of the smoke test's organization."""
    folder = tmp_path_factory.mktemp("home")
    uri = connect(None, folder, 20)
    candidate = make_candidate(folder / "candidate", tiny_base, uri)
    candidate.register(store=str(folder / "store"))
    return folder


def evaluate(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> int:
    """Exit code of the command, run in this process."""
    settings = ("organization=film-reviews", f"home={home}", f"store.url={home / 'store'}")
    overrides = [part for setting in settings for part in ("--set", setting)]
    monkeypatch.setattr("sys.argv", ["rewardloop", "evaluate", "-c", str(CONFIG), *overrides, *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    return int(stopped.value.code or 0)


def test_measures_the_answers_and_writes_each_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    texts = [f"The film number {number}" for number in range(6)]
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    wanted = ("--model", "random:tiny", "--prompts", str(prompts), "--output", str(output))
    assert evaluate(monkeypatch, home, *wanted) == 0
    shown = capsys.readouterr().out
    assert "random:tiny: 6 answers to 6 prompts, judged by film-reviews-reward/1" in shown
    for name in ("reward, standardized", "accepted", "length in tokens", "toxicity by", "distinct bigrams"):
        assert name in shown
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == texts
    scores = [row["score"] for row in rows]
    assert all(isinstance(score, float) for score in scores)
    # The printed mean is that of the written scores.
    (line,) = [line for line in shown.splitlines() if line.startswith("  score")]
    assert float(line.split()[1].replace("−", "-")) == pytest.approx(sum(scores) / len(scores), abs=6e-4)


@pytest.mark.parametrize(
    ("model", "prompts", "message"),
    [
        ("random:tiny", "", "is empty"),
        ("random:tiny", '{"question": "Why?"}\n', "row 1: the prompt is missing"),
        ("nowhere/at-all", '{"prompt": "Why?"}\n', "nowhere/at-all"),
    ],
)
def test_bad_input_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    tmp_path: Path,
    model: str,
    prompts: str,
    message: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = tmp_path / "prompts.jsonl"
    file.write_text(prompts)
    assert evaluate(monkeypatch, home, "--model", model, "--prompts", str(file)) == 2
    assert message in capsys.readouterr().err
