"""What ``rewardloop forget`` refuses, and that a whole forgetting is one JSON list."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rewardloop.cli.main import app
from rewardloop.errors import BadInputError
from tests.forgetting import HERS, KEY, WHO, fill, held, settings_of


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = settings_of(tmp_path)
    fill(tmp_path, settings, "unused")
    about = settings.model_dump(mode="json", include={"organization", "home", "store", "model", "splits", "validation"})
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(about), encoding="utf-8")
    monkeypatch.setenv("REWARDLOOP_LABELER_KEY", KEY.decode())
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pseudonym", "anna"], r"--pseudonym 'anna': is no pseudonym; expected l_ and 16 hex digits"),
        (["--text-hash", "ab"], r"--text-hash 'ab': is no SHA-256; expected 64 hex digits"),
        (["--labeler", " "], r"--labeler: is empty"),
    ],
)
def test_what_names_nobody_is_refused(config: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["forget", "-c", str(config), *arguments])
    assert isinstance(result.exception, BadInputError)
    assert result.exception.exit_code == 2
    with pytest.raises(BadInputError, match=message):
        raise result.exception


def test_a_labeler_is_forgotten_and_the_rest_is_told_as_json(config: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["forget", "-c", str(config), "--labeler", WHO, "--reason", "asked to", "--json"])
    (report,) = json.loads(result.stdout)
    assert (report["labels"], report["groups"], report["sequence"]) == (15, 1, 1)
    assert held(tmp_path / "store", HERS, WHO) == []
    told = CliRunner().invoke(app, ["forget", "-c", str(config), "--labeler", WHO])
    assert "Nothing to do" in told.stdout
