"""The smoke pipeline in the project's own image, and the image itself: what it may do, how it answers, how it stops."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from mlflow import MlflowClient

from rewardloop import __version__
from rewardloop.cli.containers import LABEL, engine, exit_codes_kept
from rewardloop.errors import BadInputError
from tests.smoke_data import write_ratings

IMAGE = os.environ.get("REWARDLOOP_TEST_IMAGE", f"rewardloop-cpu:{__version__}")
CONFIG = Path("conf/smoke.yaml").resolve()
PROMPTS = CONFIG.with_name("smoke-prompts.jsonl")
RESTRICTED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": "rw,nosuid,nodev,exec"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "network_mode": "none",
}
GIGABYTE = 1e9
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    try:
        with engine() as found:
            names = {name for image in found.images.list() for name in image.tags}
            if IMAGE not in names:
                # Whoever names an image means it; otherwise nobody has built one here.
                assert "REWARDLOOP_TEST_IMAGE" not in os.environ, f"{IMAGE} is not among {sorted(names)}"
                pytest.skip(f"no image {IMAGE}: make images")
            yield found
    except BadInputError:
        pytest.skip("no container engine")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, client: docker.DockerClient) -> Path:
    folder = tmp_path_factory.mktemp("containers")
    (folder / "conf").mkdir()
    shutil.copy(PROMPTS, folder / "conf")
    taken = rewardloop(folder, "ingest", str(write_ratings(folder / "first.csv", texts=700, seed=1)))
    assert taken.returncode == 0, taken.stderr
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rewardloop.cli.main", *arguments]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REWARDLOOP_", "MLFLOW_"))}
    return kept | {"COLUMNS": "200", "REWARDLOOP_CONFIG": str(CONFIG)}


def rewardloop(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=1500, check=False
    )


def in_containers(*more: str) -> list[str]:
    return ["run", "--set", "runner.kind=docker", "--set", f"runner.image={IMAGE}", *more]


def test_a_run_in_containers_registers_both_models(place: Path, client: docker.DockerClient) -> None:
    done = rewardloop(place, *in_containers())
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (place / ".rewardloop" / "runs").iterdir()
    steps = {path.stem: json.loads(path.read_text())["status"] for path in (run / "steps").glob("*.json")}
    assert len(steps) >= 12
    assert set(steps.values()) == {"finished"}
    tracked = MlflowClient(f"sqlite:///{place / '.rewardloop' / 'mlflow.db'}")
    for model in ("smoke-reward", "smoke-policy"):
        assert int(tracked.get_model_version_by_alias(model, "champion").version) == 1
    # What containers wrote is the caller's.
    assert {path.stat().st_uid for path in (place / ".rewardloop").rglob("*")} == {os.getuid()}
    assert not client.containers.list(all=True, filters={"label": LABEL})
    # The champion that containers trained answers on this machine.
    asked = rewardloop(place, "score", "--text", "good good good film")
    assert asked.returncode == 0, asked.stderr


def test_a_stopped_run_leaves_no_container(place: Path, client: docker.DockerClient) -> None:
    arguments = in_containers("--again", "stopped half way", "--set", "align=")
    with subprocess.Popen(command(*arguments), cwd=place, env=environment(), stdout=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 120
        while not client.containers.list(filters={"label": LABEL}):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=120)
    assert run.returncode != 0
    assert not client.containers.list(all=True, filters={"label": LABEL})


def test_code_that_differs_is_refused_before_anything_runs(
    place: Path, client: docker.DockerClient, tmp_path: Path
) -> None:
    package = Path(sys.modules["rewardloop"].__file__ or "").parent
    other = tmp_path / "source" / "rewardloop"
    shutil.copytree(package, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "errors.py").write_text((other / "errors.py").read_text() + "\n# changed\n")
    changed = environment() | {"PYTHONPATH": str(other.parent)}
    done = subprocess.run(
        command(*in_containers("--again", "changed", "--set", "align=")),
        cwd=place,
        env=changed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "holds other code" in done.stderr
    assert "make images" in done.stderr


def test_an_image_that_is_not_there_is_refused_before_anything_runs(place: Path, client: docker.DockerClient) -> None:
    before = set((place / ".rewardloop").glob("runs/*"))
    done = rewardloop(
        place,
        "run",
        "--set",
        "runner.kind=docker",
        "--set",
        "runner.image=nowhere/loop:1",
        "--again",
        "x",
        "--set",
        "align=",
    )
    assert done.returncode == 2
    assert "runner.image: 'nowhere/loop:1' is not on this machine" in done.stderr
    assert set((place / ".rewardloop").glob("runs/*")) == before


def test_the_image_works_as_its_own_user_without_capabilities(client: docker.DockerClient) -> None:
    said = client.containers.run(
        IMAGE,
        ["sh", "-c", "id -u; touch /x 2>&1; command -v pip gcc; grep CapEff /proc/self/status; rewardloop --version"],
        remove=True,
        **RESTRICTED,
    )
    user, touched, capabilities, version = said.decode().splitlines()
    assert user == "10001"
    assert "Read-only file system" in touched
    assert int(capabilities.split()[1], 16) == 0
    assert version == f"rewardloop {__version__}"


def test_the_image_is_small_labelled_and_holds_no_sources(client: docker.DockerClient) -> None:
    image = client.images.get(IMAGE)
    labels = image.labels
    assert image.attrs["Size"] < 1.6 * GIGABYTE
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {"org.opencontainers.image.revision", "org.opencontainers.image.source"} <= set(labels)
    assert image.attrs["Config"]["User"] == "10001:10001"
    assert "Healthcheck" in image.attrs["Config"]
    for secret in ("pip.conf", "ca.pem", "PIP_CERT="):
        assert all(secret not in entry["CreatedBy"] for entry in image.history() if entry["Size"])


def health(server: Any) -> str | None:
    server.reload()
    status: str | None = server.attrs["State"].get("Health", {}).get("Status")
    return status


def test_the_server_is_healthy_in_its_container(place: Path, client: docker.DockerClient, tmp_path: Path) -> None:
    settings = tmp_path / "serve.yaml"
    settings.write_text(CONFIG.read_text() + f"home: {place / '.rewardloop'}\n")
    server = client.containers.run(
        IMAGE,
        [
            "rewardloop",
            "serve",
            "--host",
            "0.0.0.0",
            "-c",
            str(settings),
            "--set",
            f"store.url={place}/.rewardloop/store",
        ],
        detach=True,
        user=f"{os.getuid()}:{os.getgid()}",
        mounts=[docker.types.Mount(str(folder), str(folder), type="bind") for folder in (place, tmp_path)],
        **RESTRICTED,
    )
    try:
        deadline = time.monotonic() + 180
        while health(server) != "healthy":
            assert server.status in ("created", "running"), server.logs().decode()
            assert time.monotonic() < deadline, server.logs().decode()
            time.sleep(1)
    finally:
        server.remove(force=True)


def test_an_exit_code_is_not_lost_while_output_is_still_read(client: docker.DockerClient, capsys: Any) -> None:
    from kfp.local import docker_task_handler

    class Slow:
        def write(self, text: str) -> int:
            time.sleep(0.0005)
            return len(text)

        def flush(self) -> None:
            pass

    failing = ["sh", "-c", "seq 3000; exit 7"]
    out, sys.stdout = sys.stdout, Slow()  # type: ignore[assignment]
    try:
        with exit_codes_kept():
            code = docker_task_handler.run_docker_container(client, IMAGE, failing, {}, network_mode="none")
    finally:
        sys.stdout = out
    assert code == 7
