"""``rewardloop serve``: the real command from its first line to SIGTERM, and what it refuses to serve."""

import hashlib
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewardloop.cli import main as command
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.modeling.remote_scorer import RemoteScorer
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.serving.keys import new_key
from tests.registered import PROMPTS, RESPONSES, THRESHOLD, Candidate
from tests.served import Served, decide, registered_version, spoil_fixture, write_reward_model


@pytest.fixture(scope="module")
def served(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RewardScorer]:
    folder = tmp_path_factory.mktemp("reward_model")
    return folder, write_reward_model(folder, tiny_base)


def rewardloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command, run in this process."""
    monkeypatch.setattr("sys.argv", ["rewardloop", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    return int(stopped.value.code or 0)


def test_says_where_it_answers_and_ends_when_told(served: tuple[Path, RewardScorer], tmp_path: Path) -> None:
    folder, scorer = served
    arguments = ["-m", "rewardloop.cli.main", "serve", "--reward-model", str(folder), "--port", "0"]
    # There is no configuration here, and a folder needs none.
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"serving .* \([0-9a-f]{12}\) on (http://127\.0\.0\.1:\d+)\n", line)
            assert found, line
            remote = RemoteScorer.connect(found[1], expected_digest=weights_digest(folder / "model"))
            # Another process may round differently.
            assert remote.raw_scores(PROMPTS, RESPONSES) == pytest.approx(
                scorer.raw_scores(PROMPTS, RESPONSES), rel=0, abs=1e-5
            )
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, output, errors) == (0, "", "")


@pytest.fixture
def registered(tiny_base: str, tmp_path: Path) -> tuple[Candidate, list[str]]:
    return registered_version(tmp_path, tiny_base)


def test_the_champion_with_keys_and_a_log(registered: tuple[Candidate, list[str]], tmp_path: Path) -> None:
    candidate, arguments = registered
    key, line = new_key("search")
    (tmp_path / "keys").write_text(line)
    digest = weights_digest(tmp_path / "reward_model" / "model")
    with Served(tmp_path, *arguments, REWARDLOOP_API_KEYS_FILE=str(tmp_path / "keys")) as served:
        assert served.line.startswith(f"serving film-reviews-reward/1 ({digest[:12]}) on http://127.0.0.1:")
        assert decide(served.url).status_code == 401
        [decided] = decide(served.url, Authorization=f"Bearer {key}").json()["decisions"]
        # The version's own code, and its threshold.
        assert (decided["model_version"], decided["threshold"]) == ("1", THRESHOLD)
    assert served.process.returncode == 0
    assert (tmp_path / "stderr").read_text() == ""
    [path] = Path(candidate.store).glob("decisions/*/*.jsonl")
    assert DecisionRecord.model_validate_json(path.read_text()).score == decided["score"]


def test_a_key_is_shown_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["rewardloop", "serve-key", "search"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    said = capsys.readouterr()
    key = said.err.strip().rpartition(" ")[2]
    assert stopped.value.code == 0
    assert said.out == f"search {hashlib.sha256(key.encode()).hexdigest()}\n"


def test_an_open_server_says_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert rewardloop(monkeypatch, "serve", "--reward-model", str(tmp_path), "--port", "0", "--host", "0.0.0.0") == 2
    assert "whoever reaches 0.0.0.0 may ask; no REWARDLOOP_API_KEYS_FILE is set" in capsys.readouterr().err


def test_a_version_that_is_not_there(
    registered: tuple[Candidate, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _, arguments = registered
    for wrong in ("7", "favourite"):
        assert rewardloop(monkeypatch, "serve", "--port", "0", "--version", wrong, *arguments) == 2
        assert f"no version or alias '{wrong}'" in capsys.readouterr().err


def test_a_folder_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    assert rewardloop(monkeypatch, "serve", "--reward-model", str(tmp_path), "--port", "0") == 2
    assert f"--reward-model {tmp_path}: has no scoring.json, parity.json; give a folder" in capsys.readouterr().err


def test_a_folder_that_is_damaged(
    tiny_base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_reward_model(tmp_path, tiny_base)
    spoil_fixture(tmp_path)
    assert rewardloop(monkeypatch, "serve", "--reward-model", str(tmp_path), "--port", "0") == 1
    assert "text 0 of parity.json scores" in capsys.readouterr().err
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\x08")
    assert rewardloop(monkeypatch, "serve", "--reward-model", str(tmp_path), "--port", "0") == 2
    assert "cannot be loaded: SafetensorError" in capsys.readouterr().err
    (tmp_path / "scoring.json").write_text("{")
    assert rewardloop(monkeypatch, "serve", "--reward-model", str(tmp_path), "--port", "0") == 2
    assert "cannot be loaded: JSONDecodeError" in capsys.readouterr().err


def test_a_port_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert rewardloop(monkeypatch, "serve", "--reward-model", str(tmp_path), "--port", port) == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in capsys.readouterr().err


def test_a_folder_or_a_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert rewardloop(monkeypatch, "serve", "--reward-model", "somewhere", "--version", "1") == 2
    assert "give either --reward-model or --version" in capsys.readouterr().err
