"""The first step of a run: what is missing is found before anything costs money, everything at once."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from mlflow import MlflowClient

from rewardloop.errors import BadInputError
from rewardloop.evidence import StepRecord
from rewardloop.steps.check_prerequisites import check_prerequisites
from rewardloop.tracking.connection import connect

SETTINGS = json.dumps({"organization": "film-reviews", "tracking": {"timeout_seconds": 2}})


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real tracking database."""
    return connect(None, tmp_path_factory.mktemp("mlflow"), 20)


class Server:
    """MLflow's REST interface as far as it is asked here, its answers taken from a real database."""

    def __init__(self, database: str) -> None:
        self.client = MlflowClient(database)
        self.token: str | None = None
        self.read_only = False
        self.url = ""

    def answer(self, verb: str, path: str, body: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
        if self.token and token != f"Bearer {self.token}":
            return 401, {"error_code": "UNAUTHENTICATED", "message": "the token has expired"}
        if self.read_only and verb == "POST" and not path.endswith("search"):
            return 403, {"error_code": "PERMISSION_DENIED", "message": "only for readers"}
        if path.endswith("get-by-name"):
            found = self.client.get_experiment_by_name(body["experiment_name"])
            if found is None:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
            names = ("experiment_id", "name", "lifecycle_stage")
            return 200, {"experiment": {name: getattr(found, name) for name in names}}
        if path.endswith("create"):
            return 200, {"experiment_id": self.client.create_experiment(body["name"])}
        self.client.set_experiment_tag(body["experiment_id"], body["key"], body["value"])
        return 200, {}


@contextmanager
def served(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = dict(parse_qsl(parts.query))
            if self.command == "POST":
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = server.answer(self.command, parts.path, body, self.headers.get("Authorization"))
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            http.shutdown()


@pytest.fixture
def server(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with served(Server(database)) as one:
        yield one


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def check(store: Path | str, uri: str) -> None:
    check_prerequisites(store=str(store), tracking_uri=uri, settings=SETTINGS)


def test_everything_is_there(tmp_path: Path, run_dir: Path, database: str) -> None:
    (tmp_path / "store").mkdir()
    check(tmp_path / "store", database)
    record = StepRecord.model_validate_json((run_dir / "steps" / "check_prerequisites.json").read_bytes())
    assert (record.status, record.produced) == ("finished", "the store and MLflow can be written")
    assert list((tmp_path / "store").iterdir()) == []


def test_looking_makes_no_folder(tmp_path: Path, database: str) -> None:
    check(tmp_path / "store", database)
    assert not (tmp_path / "store").exists()


def test_all_that_is_missing_is_one_error_with_the_settings_to_change(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInputError) as caught:
        check(tmp_path / "file" / "store", "http://127.0.0.1:9")
    text = str(caught.value)
    assert text.startswith("2 prerequisites are missing")
    assert "cannot be written" in text
    assert "[store.url]" in text
    assert "no MLflow server answered within 2 s" in text
    assert "[tracking.uri (or MLFLOW_TRACKING_URI), or start the server]" in text
    record = StepRecord.model_validate_json((run_dir / "steps" / "check_prerequisites.json").read_bytes())
    assert (record.status, record.exit_code) == ("failed", 2)


def test_a_store_that_cannot_create_exclusively(tmp_path: Path, database: str) -> None:
    with pytest.raises(BadInputError, match=r"cannot create a file only if it is absent.*\[store.url\]"):
        check(f"simplecache::file://{tmp_path}/store", database)


@pytest.mark.parametrize(
    ("content", "words"), [("No database. " * 100, "not a database"), ("", "has no tables of MLflow")]
)
def test_a_file_that_is_no_tracking_database(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "mlflow.db").write_text(content)
    with pytest.raises(BadInputError, match=rf"{words} \[tracking\.uri"):
        check(tmp_path / "store", f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_server_takes_a_tag_on_the_organizations_experiment(tmp_path: Path, server: Server) -> None:
    for _ in range(2):  # the experiment is created once, as the run itself would
        check(tmp_path, server.url)
    found = server.client.get_experiment_by_name("film-reviews")
    assert found is not None
    assert found.tags["rewardloop.prerequisites_checked_at"].startswith("20")


def test_an_expired_token(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "fresh"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "stale")
    with pytest.raises(BadInputError, match=r"refuses these credentials.*expired.*\[MLFLOW_TRACKING_USERNAME"):
        check(tmp_path, server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "fresh")
    check(tmp_path, server.url)


def test_a_reader_may_not_write(tmp_path: Path, server: Server) -> None:
    server.read_only = True
    with pytest.raises(BadInputError, match="they may not write"):
        check(tmp_path, server.url)


def test_a_deleted_experiment(tmp_path: Path, server: Server) -> None:
    found = server.client.get_experiment_by_name("gone")
    server.client.delete_experiment(found.experiment_id if found else server.client.create_experiment("gone"))
    with pytest.raises(BadInputError, match=r"'gone' was deleted; restore it .*\[organization\]"):
        check_prerequisites(store=str(tmp_path), tracking_uri=server.url, settings='{"organization": "gone"}')


def test_passwords_in_the_uri_are_not_shown(tmp_path: Path, server: Server) -> None:
    server.token = "fresh"
    with pytest.raises(BadInputError) as caught:
        check(tmp_path, server.url.replace("://", "://me:hunter2@"))
    assert "hunter2" not in str(caught.value)


def test_the_step_imports_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; import rewardloop.steps.check_prerequisites; "
        "print([name for name in ('torch', 'mlflow', 'polars', 'pandas', 'numpy', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
