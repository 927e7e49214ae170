"""A real MLflow server goes away in the middle of a registration: the registration is finished, or cleanly failed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rewardloop.errors import RewardloopError
from rewardloop.evidence import RegistrationEvidence
from rewardloop.storage import Storage
from rewardloop.tracking import outage, registration
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from rewardloop.tracking.quick_look import tags_of
from tests.registered import Candidate, make_candidate

# A server takes its time to start on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
_START_SECONDS = 600
_AWAY_SECONDS = 30


class _Server:
    """``mlflow server`` on 127.0.0.1, which can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        connect(None, folder, 5)  # the tables
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        database = f"sqlite:///{self.folder / 'mlflow.db'}"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            assert time.monotonic() < until, (self.folder / "server.log").read_text()
            time.sleep(0.5)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Server]:
    one = _Server(tmp_path_factory.mktemp("server"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        one.start()
        yield one
        one.kill()


@pytest.fixture
def candidate(tiny_base: str, server: _Server, tmp_path: Path) -> Candidate:
    made = make_candidate(tmp_path, tiny_base, server.url)
    return Candidate(tmp_path, made.tracking_uri, organization=f"org-{abs(hash(tmp_path)):x}")


def _kill_at(monkeypatch: pytest.MonkeyPatch, server: _Server, moment: str, *, back: bool) -> list[threading.Thread]:
    """Kill the server when the registration comes to ``moment``; ``back``: it is there again after half a minute."""
    insist, threads = registration.insist, []

    def watched(what, call, **options):  # type: ignore[no-untyped-def]
        if what == moment and not threads:
            server.kill()
            later = threading.Timer(_AWAY_SECONDS, server.start if back else lambda: None)
            threads.append(later)
            later.start()
        return insist(what, call, **options)

    monkeypatch.setattr(registration, "insist", watched)
    return threads


@pytest.mark.parametrize("moment", ["uploading the files", "creating the version", "loading the version back"])
def test_away_for_half_a_minute(
    candidate: Candidate,
    server: _Server,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = _kill_at(monkeypatch, server, moment, back=True)
    folder = candidate.register()
    for thread in threads:
        thread.join()
    assert len(threads) == 1
    assert f"): {moment}, attempt 2" in capsys.readouterr().out
    evidence = RegistrationEvidence.model_validate_json((folder / "evidence" / "registration.json").read_bytes())
    assert (evidence.version, evidence.champion) == ("1", True)
    client = MlflowClient(server.url)
    (version,) = client.search_model_versions(f"name = '{candidate.name}'")
    assert version.tags["blessed"] == "true"
    assert tags_of(candidate.name, "1", server.url) == version.tags
    assert tags_of(candidate.name, "2", server.url) is None
    found = client.get_registered_model(candidate.name).aliases
    assert {name: str(number) for name, number in found.items()} == {"candidate": "1", "champion": "1"}
    assert len(History(Storage.open(candidate.store), candidate.name).records()) == 1


def test_away_for_good_is_a_clean_failure_and_the_next_run_goes_on(
    candidate: Candidate, server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(outage.insist, "__kwdefaults__", {"patience_seconds": 3.0})
        _kill_at(patch, server, "loading the version back", back=False)
        with pytest.raises(RewardloopError, match=r"registering a version: MLflow at .* went away.*run again"):
            candidate.register()
    assert History(Storage.open(candidate.store), candidate.name).records() == []
    server.start()
    client = MlflowClient(server.url)
    (half,) = client.search_model_versions(f"name = '{candidate.name}'")
    assert "blessed" not in half.tags
    assert client.get_registered_model(candidate.name).aliases == {}
    evidence = RegistrationEvidence.model_validate_json(
        (candidate.register(output="again") / "evidence" / "registration.json").read_bytes()
    )
    assert (evidence.version, evidence.champion) == ("1", True)
    (whole,) = client.search_model_versions(f"name = '{candidate.name}'")
    assert whole.tags["blessed"] == "true"
