"""Passwords in addresses: taken out where they are used, masked where they are shown."""

import os
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rewardloop.config import load_settings, without_password
from rewardloop.errors import BadInputError
from rewardloop.tracking.connection import connect, keep_password
from rewardloop.tracking.quick_look import tags_of


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD"):
        monkeypatch.setenv(name, "")  # so that monkeypatch takes back what is set over it
        monkeypatch.delenv(name)


class _Registry(BaseHTTPRequestHandler):
    """Lets alice in, and sends whoever asks for ``/elsewhere`` to another server."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = self.headers.get("Authorization", "")
        self.server.seen.append(sent)  # type: ignore[attr-defined]
        target = self.server.target  # type: ignore[attr-defined]
        if target:
            self.send_response(307)
            self.send_header("Location", f"{target}{self.path}")
            self.end_headers()
            return
        known = sent.startswith("Basic ") and b64decode(sent[6:]).decode() == "alice:p@ss:/ü"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(b'{"model_version": {"tags": []}}' if self.path.count("get") else b"{}")

    do_POST = do_GET = _answer

    def log_message(self, *arguments: object) -> None:
        pass


def _server() -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    server.seen, server.target = [], None  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def servers() -> Iterator[tuple[ThreadingHTTPServer, ThreadingHTTPServer]]:
    both = _server(), _server()
    yield both
    for server in both:
        server.shutdown()
        server.server_close()


def _url(server: ThreadingHTTPServer, login: str = "") -> str:
    return f"http://{login}127.0.0.1:{server.server_address[1]}"


def test_a_server_still_gets_the_password_that_the_uri_had(
    servers: tuple[ThreadingHTTPServer, ThreadingHTTPServer], tmp_path: Path
) -> None:
    server, _ = servers
    assert connect(_url(server, "alice:p%40ss%3A%2F%C3%BC@"), tmp_path, 5) == _url(server)
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p@ss:/ü"


def test_a_login_of_the_environment_goes_first(
    servers: tuple[ThreadingHTTPServer, ThreadingHTTPServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow itself has it."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@ss:/ü")
    assert connect(_url(servers[0], "bob:wrong@"), tmp_path, 5) == _url(servers[0])


def test_a_wrong_password_is_not_in_the_message(
    servers: tuple[ThreadingHTTPServer, ThreadingHTTPServer], tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match="give the user and password that it wants") as caught:
        connect(_url(servers[0], "alice:hunter2@"), tmp_path, 5)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "kept", "password"),
    [
        ("postgresql+psycopg2://alice:p%40ss@db/mlflow", "postgresql+psycopg2://alice@db/mlflow", "p@ss"),
        (
            "postgresql://alice:x@db:5432/mlflow?sslmode=require",
            "postgresql://alice@db:5432/mlflow?sslmode=require",
            "x",
        ),
        ("postgresql://alice@db/mlflow", "postgresql://alice@db/mlflow", None),
        ("sqlite:////tmp/a@b:c/mlflow.db", "sqlite:////tmp/a@b:c/mlflow.db", None),
        ("databricks", "databricks", None),
    ],
)
def test_a_database_gets_its_password_from_the_environment(uri: str, kept: str, password: str | None) -> None:
    assert keep_password(uri) == kept
    assert os.environ.get("PGPASSWORD") == password


@pytest.mark.parametrize(
    "uri",
    [
        "mysql+pymysql://alice:hunter2@db/mlflow",
        "postgresql+pg8000://alice:hunter2@db/mlflow",
        "postgresql://db/mlflow?user=alice&password=hunter2",
        "http://[alice:hunter2@db",
    ],
)
def test_a_password_with_no_place_to_go_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(BadInputError, match=r"^tracking\.uri: ") as caught:
        keep_password(uri)
    assert "hunter2" not in str(caught.value)


def test_a_login_does_not_follow_a_redirect(servers: tuple[ThreadingHTTPServer, ThreadingHTTPServer]) -> None:
    """A registry that sends us elsewhere is not obeyed: the password would go along."""
    registry, other = servers
    os.environ.update(MLFLOW_TRACKING_USERNAME="alice", MLFLOW_TRACKING_PASSWORD="p@ss:/ü")
    assert tags_of("org-reward", "1", _url(registry)) == {}
    registry.target = _url(other)  # type: ignore[attr-defined]
    with pytest.raises(BadInputError, match="cannot be asked"):
        tags_of("org-reward", "1", _url(registry))
    assert registry.seen  # type: ignore[attr-defined]
    assert [one for one in other.seen if one] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://alice:p@ss:/ü@host:5000/x?", "at http://***@host:5000/x?"),
        ("http://alice:pa/ss@host", "http://***@host"),
        ("http://host:8080/@user and a@b", "http://host:8080/@user and a@b"),
        ('"http://host", "a@b"', '"http://host", "a@b"'),
        ("postgresql://db/x?user=a&password=hunter2&sslmode=on", "postgresql://db/x?user=a&password=***&sslmode=on"),
        ("https://host/hook?token=abc'", "https://host/hook?token=***'"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
    ],
)
def test_what_is_masked(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert str(BadInputError(text)) == shown


def test_mistakes_in_a_configuration_are_quoted_without_passwords(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("organization: org\nmodel: {base: x}\ntracking: {uri: [https://alice:hunter2@host]}\n")
    with pytest.raises(BadInputError, match=r"tracking.uri: found .*https://\*\*\*@host") as caught:
        load_settings(path)
    assert "hunter2" not in str(caught.value)
