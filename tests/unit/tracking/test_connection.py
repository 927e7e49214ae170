"""The tracking database is made once and a server that is not there is found out at once."""

import multiprocessing
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
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


def test_somebody_else_answers(tmp_path: Path) -> None:
    """The port is held by a web server that says that all is well, or that all is forbidden, whatever it is asked."""

    class Other(BaseHTTPRequestHandler):
        status = 200

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(self.status)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            for Other.status in (200, 403):
                with pytest.raises(BadInputError, match="no MLflow server answered"):
                    connect(f"http://127.0.0.1:{server.server_address[1]}", tmp_path, 5)
        finally:
            server.shutdown()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("No database. " * 100)
    with pytest.raises(BadInputError, match=r"tracking\.uri: MLflow cannot use .*mlflow\.db: .*not a database"):
        connect(None, tmp_path, 5)


def test_unknown_kind_of_uri(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"tracking\.uri.*nowhere://x"):
        connect("nowhere://x", tmp_path, 1)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInputError, match=r"tracking\.uri.*cannot be created"):
        connect(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path, 1)


@pytest.mark.timeout(30)  # MLflow itself would try for a minute and a half
def test_a_database_that_does_not_answer_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"MLflow cannot use postgresql\+psycopg2://.*127\.0\.0\.1:9/.*refused"):
        connect("postgresql+psycopg2://me@127.0.0.1:9/mlflow", tmp_path, 5)
    with pytest.raises(BadInputError, match=r"No module named 'pg8000'; install that driver, or name one"):
        connect("postgresql+pg8000://me@127.0.0.1:9/mlflow", tmp_path, 5)
