"""The parts that stand behind MLflow in production, real ones on 127.0.0.1: PostgreSQL, two S3 stores, the server.

In: a folder. Out: servers that are ended by the process that started them. ``rclone serve s3`` checks signatures and
keeps its objects in a folder: MLflow's artifacts. ``moto_server`` knows conditional puts, which the feedback store
rests on, and keeps its objects in memory. Each has credentials of its own.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_SCRIPTS = Path(sys.executable).parent
_START_SECONDS = 600  # a busy machine takes its time
SECRET = "not-a-real-secret"


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass
class Server:
    """A process group that answers once ``ready`` says so; ``port`` stays the same when it is started again."""

    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    cwd: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + _START_SECONDS
        while not self.ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.3)

    def stop(self) -> None:
        """End it and what it started; at once where it does not go."""
        if self.process is None:
            return
        self._signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        self.kill()

    def kill(self) -> None:
        """End it as a lost machine does."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def postgres(folder: Path) -> tuple[Server, dict[str, str]]:
    """A new cluster that wants a password, with the empty database ``mlflow``; also what libpq's clients need.

    ``folder`` must be one that another user may enter: PostgreSQL refuses to run as root.
    """
    programs, data, port = postgres_programs(), folder / "data", free_port()
    folder.mkdir()
    user = _as_other_user(folder)
    password = folder / "password"
    password.write_text(SECRET)
    password.chmod(0o644)
    initdb = ["initdb", "--pgdata", str(data), "--username", "mlflow", "--pwfile", str(password), "--encoding", "UTF8"]
    initdb += ["--auth-host", "scram-sha-256", "--auth-local", "reject", "--no-sync", "--locale", "C"]
    subprocess.run([*user, f"{programs}/{initdb[0]}", *initdb[1:]], check=True, capture_output=True, cwd="/")
    command = [*user, f"{programs}/postgres", "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
    client = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGPASSWORD": SECRET}
    client |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PGDATABASE": "postgres"}

    def ready() -> bool:
        return subprocess.run(["pg_isready", "-q"], env=client, check=False).returncode == 0

    # SIGINT is PostgreSQL's fast shutdown.
    server = Server(command, folder / "log", ready, port, stop_signal=signal.SIGINT, cwd=Path("/"))
    server.start()
    subprocess.run(["createdb", "mlflow"], env=client, check=True, capture_output=True)
    return server, client | {"PGDATABASE": "mlflow"}


def postgres_programs() -> Path:
    """Folder of PostgreSQL's programs; a test that needs them is skipped where there are none."""
    places = [Path(found).parent for found in [shutil.which("postgres")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name), reverse=True)
    for place in places:
        if all((place / name).is_file() for name in ("initdb", "postgres", "pg_dump", "pg_restore")):
            return place
    pytest.skip("no PostgreSQL")


def _as_other_user(folder: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "nobody")
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def signed_s3(folder: Path) -> tuple[Server, dict[str, str]]:
    """``rclone serve s3``: signatures are checked, objects are files; also the environment of its clients."""
    port = free_port()
    folder.mkdir()
    client = s3_client(port, "artifacts-key")
    command = [f"{_SCRIPTS}/rclone", "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{port}", str(folder)]
    key = f'"{client["AWS_ACCESS_KEY_ID"]},{client["AWS_SECRET_ACCESS_KEY"]}"'
    server = Server(command, folder.with_suffix(".log"), answers(port), port, {"RCLONE_AUTH_KEY": key})
    server.start()
    return server, client


def conditional_s3(folder: Path) -> tuple[Server, dict[str, str]]:
    """``moto_server``, without a bucket; also the environment of its clients."""
    port = free_port()
    command = [f"{_SCRIPTS}/moto_server", "-H", "127.0.0.1", "-p", str(port)]
    server = Server(command, folder.with_suffix(".log"), answers(port), port)
    server.start()
    return server, s3_client(port, "store-key")


def s3_client(port: int, key: str) -> dict[str, str]:
    """What boto3 and s3fs read."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": f"{key}-{SECRET}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def rclone_remote(name: str, client: Mapping[str, str]) -> dict[str, str]:
    """The same as a remote of rclone's, by environment: no file with secrets."""
    return {
        f"RCLONE_CONFIG_{name}_TYPE": "s3",
        f"RCLONE_CONFIG_{name}_PROVIDER": "Other",
        f"RCLONE_CONFIG_{name}_ENDPOINT": client["AWS_ENDPOINT_URL"],
        f"RCLONE_CONFIG_{name}_ACCESS_KEY_ID": client["AWS_ACCESS_KEY_ID"],
        f"RCLONE_CONFIG_{name}_SECRET_ACCESS_KEY": client["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG": os.devnull,
    }


def mlflow_server(log: Path, arguments: Sequence[str], environment: Mapping[str, str], port: int) -> Server:
    """The server with the arguments that ``docker/compose.yaml`` gives it, on ``port`` of 127.0.0.1."""
    command = [sys.executable, "-m", "mlflow", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    return Server([*command, "--workers", "1"], log, answers(port, "/health"), port, environment)


def answers(port: int, path: str = "/") -> Callable[[], bool]:
    """Whether somebody answers there, and does not say that he cannot yet."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code < 500  # it wants a signature, so it is there
        except OSError:
            return False

    return ready
