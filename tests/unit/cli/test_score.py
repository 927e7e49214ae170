"""``rewardloop score`` with a registered version that has two thresholds."""

import json
from pathlib import Path

import numpy as np
import pytest

from rewardloop.cli import main as command
from rewardloop.tracking.connection import connect
from tests.registered import RESPONSES, THRESHOLD, Candidate, make_candidate

CONFIG = Path(__file__).parents[3] / "conf" / "smoke.yaml"
TOO_LONG = "x" * 200


@pytest.fixture(scope="module")
def candidate(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWARDLOOP_HOME", str(folder / "home"))
        candidate = make_candidate(
            folder, tiny_base, connect(None, folder / "home", 5), block_threshold=THRESHOLD - 0.1
        )
        candidate.register()
    return candidate


def score(candidate: Candidate, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    settings = [
        f"tracking.uri={candidate.tracking_uri}",
        f"store.url={candidate.store}",
        f"organization={candidate.organization}",
    ]
    overrides = [part for setting in settings for part in ("--set", setting)]
    monkeypatch.setattr("sys.argv", ["rewardloop", "score", "-c", str(CONFIG), *overrides, *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    return int(stopped.value.code or 0)


def test_a_file_says_what_a_person_has_to_decide(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, output = tmp_path / "answers.jsonl", tmp_path / "scores.jsonl"
    texts = [*RESPONSES, TOO_LONG]
    answers.write_text("".join(json.dumps({"response": text}) + "\n" for text in texts))
    assert score(candidate, monkeypatch, "--file", str(answers), "--output", str(output)) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert rows[-1]["score"] is None
    assert rows[-1]["decision"] == "review"
    for row in rows[:-1]:
        expected = np.select([row["score"] >= THRESHOLD, row["score"] < THRESHOLD - 0.1], ["accept", "block"], "review")
        assert row["decision"] == expected
    assert [row["allowed"] for row in rows] == [row["decision"] == "accept" for row in rows]
    printed = capsys.readouterr().out
    asked = sum(row["decision"] == "review" for row in rows) / len(rows)
    assert f"for a person     {asked:.1%}" in printed
    assert "too long         1 answers, for a person" in printed
    assert "threshold +0.412, blocked below +0.312" in printed


def test_a_text_has_its_decision(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(candidate, monkeypatch, "--text", TOO_LONG) == 0
    line, last = capsys.readouterr().out.splitlines()[-2:]
    assert line.startswith("too long  review  xxx")
    assert last == "threshold +0.412, blocked below +0.312, film-reviews-reward/1"
