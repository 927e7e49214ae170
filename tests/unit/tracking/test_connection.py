"""The tracking database is made once and a server that is not there is found out at once."""

import multiprocessing
import socket
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rewardloop.errors import BadInputError
from rewardloop.tracking.connection import connect


def test_two_processes_make_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        uris = pool.starmap(connect, [(None, home, 5)] * 2)
    assert uris == [f"sqlite:///{home / 'mlflow.db'}"] * 2
    assert len(MlflowClient(uris[0]).search_experiments()) == 1
    assert not (tmp_path / "mlruns").exists()
    assert [path.name for path in home.iterdir() if path.suffix == ".new"] == []


def test_nobody_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(BadInputError, match=rf"tracking\.uri: .* {uri} "):
            connect(uri, Path("unused"), 5)
    assert time.monotonic() - started < 4


def test_somebody_who_never_answers(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(BadInputError, match="within 1 s"):
            connect(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, 1)
    assert time.monotonic() - started < 4


def test_unknown_kind_of_uri(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"tracking\.uri.*nowhere://x"):
        connect("nowhere://x", tmp_path, 1)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInputError, match=r"tracking\.uri.*cannot be created"):
        connect(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path, 1)
