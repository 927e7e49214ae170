"""A workplace whose commands use production's servers (``tests.production``), as ``docker/compose.yaml`` starts them.

In: a folder, and what compose.yaml says of MLflow and of the buckets. Out: rewardloop's commands, run as a user runs
them, and what they left in the registry.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml
from mlflow import MlflowClient

from tests import production
from tests.production import Server

TEXTS = ("good good good film", "a film with voice", "bad bad bad film")
_COMPOSE = yaml.safe_load(Path("docker/compose.yaml").read_text(encoding="utf-8"))["services"]
_LABELER_KEY = "a key of labelers' pseudonyms"


@dataclass
class Place:
    """One set of servers, and a workplace whose commands use them."""

    folder: Path
    database: dict[str, str] = field(default_factory=dict)
    store: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    mlflow: Server = field(init=False)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start_storage(self, servers: contextlib.ExitStack) -> None:
        """PostgreSQL and both S3 stores, all empty."""
        for start, name in (
            (production.postgres, "database"),
            (production.conditional_s3, "store"),
            (production.signed_s3, "artifacts"),
        ):
            server, client = start(self.folder / name)
            servers.callback(server.stop)
            setattr(self, name, client)

    def make_buckets(self) -> None:
        """As the service ``buckets`` of compose.yaml does."""
        for client in (self.store, self.artifacts):
            command = [*_COMPOSE["buckets"]["entrypoint"], *_COMPOSE["buckets"]["command"]]
            self.shell(command, production.rclone_remote("S3", client))

    def start_mlflow(self, servers: contextlib.ExitStack) -> None:
        """With the arguments of compose.yaml, but on 127.0.0.1 and a port of its own."""
        program, *arguments = _COMPOSE["mlflow"]["command"]
        kept = [one for one in arguments if not one.startswith(("--host", "--port", "--workers"))]
        port = production.free_port()
        environment = {**self.database, **self.artifacts, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        hosts = [one.replace("127.0.0.1:5000", f"127.0.0.1:{port}") for one in kept]
        self.mlflow = production.mlflow_server(self.folder / "mlflow.log", hosts, environment, port)
        assert program == "mlflow"
        servers.callback(self.mlflow.stop)
        self.mlflow.start()

    def write_config(self) -> None:
        """Of the smoke test, without alignment, with the store on S3."""
        settings = yaml.safe_load(Path("conf/smoke.yaml").read_text(encoding="utf-8"))
        del settings["align"], settings["policy_evaluation"], settings["gate"]["policy"]
        settings["store"] = {"url": "s3://feedback/store"}
        (self.folder / "rewardloop.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """Of rewardloop's own processes: the store's keys, and neither the database's nor the artifacts'."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REWARDLOOP_", "MLFLOW_"))}
        return kept | self.store | {"MLFLOW_TRACKING_URI": self.mlflow.url, "REWARDLOOP_LABELER_KEY": _LABELER_KEY}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of rewardloop's."""
        process = subprocess.Popen(
            [sys.executable, "-m", "rewardloop.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def end_commands(self) -> None:
        """Those that a failed test left running; a run ends its steps itself."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait()

    def rewardloop(self, *arguments: str, code: int = 0) -> str:
        """What the command said; it must end with ``code``."""
        process = self.begin(*arguments)
        said, _ = process.communicate(timeout=1800)
        assert process.returncode == code, said
        return said

    def shell(self, command: list[str], environment: Mapping[str, str]) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.environ['PATH'])}"
        done = subprocess.run(
            command, env=os.environ | environment | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sql(self, question: str) -> list[str]:
        command = ["psql", "--tuples-only", "--no-align", "--command", question]
        return self.shell(command, self.database).split()

    def runs(self, organization: str) -> list[Path]:
        """Folders of an organization's runs, oldest first."""
        found = sorted((self.folder / ".rewardloop" / "runs").glob("*/run.json"))
        return [one.parent for one in found if json.loads(one.read_text())["organization"] == organization]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.mlflow.url)

    def registry(self) -> dict[str, Any]:
        """Every registered model: its aliases, and the tags of its versions."""
        found = {}
        for model in self.client.search_registered_models():
            versions = self.client.search_model_versions(f"name = '{model.name}'")
            tags = {str(one.version): one.tags for one in versions}
            aliases = {alias: str(version) for alias, version in model.aliases.items()}
            found[model.name] = {"aliases": aliases, "versions": tags}
        return found

    def served(self) -> list[dict[str, Any]]:
        """What ``rewardloop serve`` decides about a few texts."""
        port = production.free_port()
        command = [sys.executable, "-m", "rewardloop.cli.main", "serve", "--port", str(port)]
        log, ready = self.folder / "serve.log", production.answers(port, "/readyz")
        server = Server(command, log, ready, port, self.environment(), cwd=self.folder)
        server.start()
        try:
            rows = [{"response": text} for text in TEXTS]
            decisions = requests.post(f"{server.url}/v1/decide", json={"rows": rows}, timeout=60).json()["decisions"]
        finally:
            server.stop()
        return [{key: value for key, value in one.items() if key != "request_id"} for one in decisions]
