"""Secrets that are planted everywhere a user may put one are found nowhere that rewardloop, KFP or MLflow writes."""

import base64
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from standardwebhooks import Webhook

from tests.smoke_data import write_ratings

CONFIG = Path("conf/smoke.yaml").resolve()
pytestmark = pytest.mark.timeout(1800)  # a run is a dozen processes that each import their libraries
_SECONDS = 600
_COMMAND = [sys.executable, "-m", "rewardloop.cli.main"]


class _Receiver(BaseHTTPRequestHandler):
    """Takes notifications."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


class Workplace:
    """A folder that is searched, beside one with what the secrets come from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.planted = folder / "work", folder / "planted"
        for place in (self.folder, self.planted):
            place.mkdir()
        names = ("mlflow-password", "s3-id", "s3-key", "s3-token", "hub-token", "kfp-token")
        names += ("notify-password", "notify-path", "notify-unknown", "labeler-key", "label-studio")
        self.secrets = {name: f"{name}-{secrets.token_hex(12)}" for name in names}
        # As a URL has it: what is secret is the password, however it is written.
        self.secrets["mlflow-password"] += "@:/ü"
        self.secrets["webhook"] = base64.b64encode(secrets.token_bytes(32)).decode()
        self.outputs: dict[str, str] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.config = self.planted / "config.yaml"
        settings = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        del settings["align"]
        password = urllib.parse.quote(self.secrets["mlflow-password"], safe="")
        settings["tracking"] = {"uri": f"http://alice:{password}@127.0.0.1:{self.port}"}
        self.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.environment = os.environ | {"COLUMNS": "200", "REWARDLOOP_CONFIG": str(self.config)}
        for name in ("REWARDLOOP_HOME", "REWARDLOOP_RUN_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            self.environment.pop(name, None)

    def plant(self, receiver: str) -> None:
        """Put the secrets into the environment."""
        place = receiver.partition("://")[2]
        known = self.secrets
        urls = [
            f"json://bob:{known['notify-password']}@{place}/{known['notify-path']}",
            f"json://bob:{known['notify-password']}@127.0.0.1:9/{known['notify-path']}",
            f"no-such-service://{known['notify-unknown']}",
        ]
        self.environment |= {
            "AWS_ACCESS_KEY_ID": known["s3-id"],
            "AWS_SECRET_ACCESS_KEY": known["s3-key"],
            "AWS_SESSION_TOKEN": known["s3-token"],
            "HF_TOKEN": known["hub-token"],
            "KF_PIPELINES_TOKEN": known["kfp-token"],
            "REWARDLOOP_LABELER_KEY": known["labeler-key"],
            "REWARDLOOP_LABEL_STUDIO_SECRET": known["label-studio"],
            "REWARDLOOP_WEBHOOK_SECRETS": f"whsec_{known['webhook']}",
            "REWARDLOOP_NOTIFY_URLS": " ".join(urls),
        }

    def rewardloop(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*_COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        self.outputs[" ".join(arguments[:2])] = done.stdout + done.stderr
        return done

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A process that goes on, its output in a file that is searched."""
        with (self.folder / f"{name}.txt").open("wb") as output:
            return subprocess.Popen(
                [*_COMMAND, *arguments], cwd=self.folder, env=self.environment, stdout=output, stderr=output
            )

    def said(self, name: str, pattern: str, process: subprocess.Popen[bytes]) -> str:
        """The first group of ``pattern``, as soon as the process has said it."""
        until = time.monotonic() + _SECONDS
        while True:
            over = process.poll() is not None
            text = (self.folder / f"{name}.txt").read_text(encoding="utf-8")
            if found := re.search(pattern, text):
                return found[1]
            assert not over, text
            assert time.monotonic() < until, text
            time.sleep(0.1)


@contextlib.contextmanager
def _mlflow(place: Workplace) -> Iterator[None]:
    """``mlflow server`` whose database, artifacts and log lie in the folder that is searched."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{place.folder}/mlflow.db"]
    command += ["--artifacts-destination", str(place.folder / "mlartifacts"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(place.port)]
    clean = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (place.folder / "mlflow-server.txt").open("wb") as log:
        server = subprocess.Popen(command, env=clean, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + _SECONDS
        while True:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{place.port}/health", timeout=5),
            ):
                break
            assert time.monotonic() < until, (place.folder / "mlflow-server.txt").read_text()
            time.sleep(0.3)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Everything is done once: ingest, run, look, notify, take webhooks, serve."""
    place = Workplace(tmp_path_factory.mktemp("secrets"))
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    receiver.told = []  # type: ignore[attr-defined]
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    place.plant(f"http://127.0.0.1:{receiver.server_address[1]}")
    try:
        with _mlflow(place):
            write_ratings(place.folder / "first.csv", texts=700, seed=1)
            taken = place.rewardloop("ingest", "first.csv")
            assert taken.returncode == 0, taken.stderr
            done = place.rewardloop("run")
            assert done.returncode == 0, done.stdout + done.stderr
            # Of three addresses one was told, one did not answer, one is unknown.
            assert receiver.told == [f"/{place.secrets['notify-path']}"]  # type: ignore[attr-defined]
            assert done.stderr.count("Warning: address") == 2
            checked = ["config", "check", str(place.config)]
            for command in (["status", "--json"], ["status"], ["history"], checked, ["drift"]):
                done = place.rewardloop(*command)
                assert done.returncode == 0, done.stdout + done.stderr
            place.rewardloop("score", "--text", "good good film")
            _take_webhooks(place)
            _serve(place)
            place.rewardloop("rollback", "--reason", "a trial")
            _fail_to_connect(place)
        yield place
    finally:
        receiver.shutdown()
        receiver.server_close()


def _take_webhooks(place: Workplace) -> None:
    watch = place.start("trigger", "trigger", "--watch", "--listen", "127.0.0.1:0")
    try:
        port = place.said("trigger", r"listening on 127\.0\.0\.1:(\d+)", watch)
        url = f"http://127.0.0.1:{port}/v1/webhooks"
        body, now = "{}", datetime.now(UTC)
        signature = Webhook(base64.b64decode(place.secrets["webhook"])).sign("message-1", now, body)
        headers = {"webhook-id": "message-1", "webhook-timestamp": str(int(now.timestamp()))}
        good = requests.post(f"{url}/trigger", body, headers=headers | {"webhook-signature": signature}, timeout=30)
        assert good.status_code == 202, good.text
        # Somebody sends the secret itself, in place of a signature, in the body and in the address.
        told = place.secrets["webhook"]
        wrong = requests.post(
            f"{url}/trigger?secret={told}", told, headers=headers | {"webhook-signature": f"v1,{told}"}, timeout=30
        )
        assert wrong.status_code == 401
        labeled = requests.post(
            f"{url}/label-studio", body, headers={"X-Label-Studio-Secret": place.secrets["label-studio"]}, timeout=30
        )
        assert labeled.status_code == 202, labeled.text
        place.outputs["answers of the listener"] = good.text + wrong.text + labeled.text
        place.said("trigger", r"(label-studio: \w+: taken)", watch)
    finally:
        _end(watch)


def _serve(place: Workplace) -> None:
    made = subprocess.run([*_COMMAND, "serve-key", "team"], capture_output=True, text=True, timeout=120, check=True)
    place.secrets["api-key"] = made.stderr.split()[-1]
    keys = place.planted / "keys"
    keys.write_text(made.stdout, encoding="utf-8")
    place.environment["REWARDLOOP_API_KEYS_FILE"] = str(keys)
    server = place.start("serve", "serve", "--port", "0", "--set", "serving.log.sample=1")
    try:
        url = place.said("serve", r"on (http://\S+)", server)
        rows = {"rows": [{"response": "a good film"}]}
        key = place.secrets["api-key"]
        headers = {"X-API-Key": key, "Authorization": f"Bearer {key}"}
        allowed = requests.post(f"{url}/v1/decide", json=rows, headers=headers, timeout=60)
        assert allowed.status_code == 200, allowed.text
        refused = requests.post(f"{url}/v1/decide?key={key}", json=rows, timeout=60)
        assert refused.status_code == 401, refused.text
        metrics = requests.get(f"{url}/metrics", headers=headers, timeout=60).text
        place.outputs["answers of the server"] = allowed.text + refused.text + metrics
    finally:
        _end(server)


def _fail_to_connect(place: Workplace) -> None:
    """Error messages name addresses: without the password."""
    password = urllib.parse.quote(place.secrets["mlflow-password"], safe="")
    for number, uri in enumerate(
        [
            f"http://alice:{password}@127.0.0.1:9",
            f"mysql+pymysql://alice:{password}@127.0.0.1:9/mlflow",
            f"postgresql://127.0.0.1:9/mlflow?user=alice&password={password}",
            f"[http://alice:{password}@127.0.0.1:9]",
        ]
    ):
        done = place.rewardloop("run", "--again", f"try {number}", "--set", f"tracking.uri={uri}")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "tracking.uri" in done.stderr
        place.outputs[f"failed connection {number}"] = done.stdout + done.stderr


def _forms(secret: str) -> set[bytes]:
    """The secret, and as it would lie in a URL, in a header and in JSON."""
    plain = secret.encode()
    texts = {secret, urllib.parse.quote(secret, safe=""), urllib.parse.quote(secret), json.dumps(secret)[1:-1]}
    texts |= {base64.b64encode(user + plain).decode() for user in (b"", b"alice:", b"bob:")}
    return {text.encode() for text in texts}


def _findings(place: Workplace, contents: Iterator[tuple[str, bytes]]) -> list[str]:
    wanted = {name: _forms(secret) for name, secret in place.secrets.items()}
    return [
        f"{name} in {where}"
        for where, content in contents
        for name, forms in wanted.items()
        if any(form in content for form in forms)
    ]


def test_no_secret_is_in_any_file(place: Workplace) -> None:
    """Logs, run folders, KFP's outputs and cache, the report, MLflow's database, artifacts and log, the store."""
    found = sorted(path for path in place.folder.rglob("*") if path.is_file())
    names = {path.name for path in found}
    assert {"log.txt", "report.html", "run.json", "mlflow.db", "mlflow-server.txt", "trigger.txt", "serve.txt"} <= names
    assert any("pipelines" in path.parts for path in found)
    assert any("mlartifacts" in path.parts for path in found)
    assert any("history" in path.parts for path in found)
    contents = ((str(path.relative_to(place.folder)), path.read_bytes()) for path in found)
    assert _findings(place, contents) == []


def test_no_command_says_a_secret(place: Workplace) -> None:
    assert len(place.outputs) > 12
    assert _findings(place, ((name, text.encode()) for name, text in place.outputs.items())) == []


def test_the_record_of_the_run_has_the_address_without_the_password(place: Workplace) -> None:
    (record,) = (json.loads(path.read_text()) for path in place.folder.glob(".rewardloop/runs/*/run.json"))
    assert record["tracking_uri"] == f"http://127.0.0.1:{place.port}"
    assert record["settings"]["tracking.uri"].startswith("http://***@127.0.0.1")


def test_compiled_graphs_hold_no_secret_and_take_none(place: Workplace) -> None:
    folder = Path(str(files("rewardloop") / "compiled"))
    graphs = sorted(folder.glob("*.yaml"))
    assert graphs
    assert _findings(place, ((path.name, path.read_bytes()) for path in graphs)) == []
    for path in graphs:
        spec: dict[str, Any] = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        inputs = spec["root"]["inputDefinitions"]["parameters"]
        assert not [name for name in inputs if re.search("secret|password|token|key", name)]


def test_the_search_itself_finds_what_is_there(place: Workplace, tmp_path: Path) -> None:
    """A search that finds nothing anywhere would pass too."""
    planted = [self for self in place.planted.iterdir() if self.name == "config.yaml"]
    assert _findings(place, ((path.name, path.read_bytes()) for path in planted)) == ["mlflow-password in config.yaml"]
    header = base64.b64encode(f"alice:{place.secrets['mlflow-password']}".encode())
    assert _findings(place, iter([("header", b"Authorization: Basic " + header)])) == ["mlflow-password in header"]
