"""What containers of a run see and may do, and what is refused before one is started."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from rewardloop.cli.containers import LABEL, check_image, end_containers
from rewardloop.cli.local import _graph
from rewardloop.cli.runners import Containers, containers_for, given_environment, named_files
from rewardloop.config import load_settings
from rewardloop.errors import BadInputError

SMOKE = Path("conf/smoke.yaml").resolve()
DOCKER = ("runner.kind=docker", "runner.image=rewardloop-cpu:1")


def containers(folder: Path, *overrides: str, store: str | None = None, tracking_uri: str | None = None) -> Containers:
    settings = load_settings(SMOKE, [f"home={folder / 'home'}", *DOCKER, *overrides]).settings
    found = containers_for(
        settings,
        store=store or str(folder / "home" / "store"),
        tracking_uri=tracking_uri or f"sqlite:///{folder}/home/mlflow.db",
    )
    assert found is not None
    return found


def test_processes_are_the_default(tmp_path: Path) -> None:
    settings = load_settings(SMOKE).settings
    assert settings.runner.kind == "subprocess"
    assert containers_for(settings, store=str(tmp_path), tracking_uri="sqlite:////x/mlflow.db") is None


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["runner.kind=docker"], "runner.image is missing; runner.kind = docker needs one (`make images` builds it)"),
        (["runner.image=rewardloop-cpu"], "'rewardloop-cpu' has no tag; expected name:tag"),
        (["runner.image=localhost:5000/rewardloop-cpu"], "has no tag"),
        (["runner.kind=podman"], "runner.kind: found 'podman'"),
        (["runner.memory=8 GB"], "runner.memory: found '8 GB'"),
    ],
)
def test_settings_that_cannot_work(overrides: list[str], says: str) -> None:
    with pytest.raises(BadInputError) as refused:
        load_settings(SMOKE, overrides)
    assert says in str(refused.value)


def test_where_a_model_is_trained_is_no_part_of_its_digest() -> None:
    assert load_settings(SMOKE).digest == load_settings(SMOKE, DOCKER).digest


def test_files_alone_need_no_network_and_one_folder(tmp_path: Path) -> None:
    found = containers(tmp_path)
    assert found.network == "none"
    assert found.written == (tmp_path / "home",)
    assert found.read == ()


@pytest.mark.parametrize(
    ("more", "network"),
    [
        ({"tracking_uri": "http://127.0.0.1:5000"}, "host"),
        ({"tracking_uri": "http://localhost:5000"}, "host"),
        ({"tracking_uri": "http://[::1]:5000"}, "host"),
        ({"tracking_uri": "https://mlflow.example.org"}, "bridge"),
        ({"store": "s3://bucket/store"}, "bridge"),
    ],
)
def test_a_server_opens_the_network_as_far_as_needed(tmp_path: Path, more: dict[str, str], network: str) -> None:
    assert containers(tmp_path, **more).network == network  # type: ignore[arg-type]


def test_a_store_whose_server_is_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert containers(tmp_path, store="s3://bucket/store").network == "host"
    assert containers(tmp_path).network == "none"  # nothing is asked there


def test_a_model_of_the_hub_needs_the_network_and_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    found = containers(tmp_path, "model.base=org/name")
    assert found.network == "bridge"
    assert tmp_path / "hub" in found.written
    assert found.arguments()["environment"]["HF_HOME"] == str(tmp_path / "hub")
    assert containers(tmp_path, "model.base=org/name", "runner.network=none").network == "none"


def test_folders_elsewhere_are_mounted_once_and_as_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "home" / "policy").mkdir(parents=True)
    found = containers(
        tmp_path,
        f"model.base={tmp_path}/base",
        f"align.policy={tmp_path}/home/policy",
        f"runner.mounts=[{tmp_path}/base]",
        store=f"file://{tmp_path}/a%20store",
        tracking_uri=f"sqlite:///{tmp_path}/tracked/mlflow.db",
    )
    assert found.network == "none"
    assert set(found.written) == {tmp_path / "home", tmp_path / "a store", tmp_path / "tracked"}
    assert found.read == (tmp_path / "base",)
    mounts = {mount["Target"]: mount["ReadOnly"] for mount in found.arguments()["mounts"]}
    assert mounts[str(tmp_path / "home")] is False
    assert mounts[str(tmp_path / "base")] is True


def test_a_container_may_do_no_more_than_its_caller(tmp_path: Path) -> None:
    arguments = containers(tmp_path, "runner.memory=8g").arguments(tmp_path / "run")
    assert arguments["user"] == f"{os.getuid()}:{os.getgid()}"
    assert arguments["read_only"] is True
    assert arguments["cap_drop"] == ["ALL"]
    assert arguments["security_opt"] == ["no-new-privileges"]
    assert arguments["mem_limit"] == "8g"
    assert arguments["labels"] == {LABEL: str(tmp_path / "run")}
    assert arguments["environment"]["TMPDIR"] == str(tmp_path / "run" / "tmp")
    assert "device_requests" not in arguments
    (gpus,) = containers(tmp_path, "runner.gpus=all").arguments()["device_requests"]
    assert (gpus["Count"], gpus["Capabilities"]) == (-1, [["gpu"]])


def test_kfps_runner_takes_every_argument(tmp_path: Path) -> None:
    from kfp import local

    runner = local.DockerRunner(**containers(tmp_path).arguments(tmp_path / "run"))
    assert runner.container_run_args["network_mode"] == "none"


def test_secrets_that_no_step_reads_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = tmp_path / "ca.pem"
    certificates.touch()
    given: dict[str, Any] = {
        "REWARDLOOP_RUN_DIR": "/somewhere",
        "REWARDLOOP_NOTIFY_URLS": "slack://token",
        "REWARDLOOP_LABELER_KEY": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CA_BUNDLE": str(certificates),
        "MLFLOW_TRACKING_PASSWORD": "password",
        "UNRELATED": "x",
        "WANTED": "y",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = given_environment(("WANTED",))
    assert {name for name in given if name in environment} == {
        "REWARDLOOP_RUN_DIR", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE", "MLFLOW_TRACKING_PASSWORD", "WANTED"
    }  # fmt: skip
    assert environment["REWARDLOOP_LOG_FORMAT"] == "text"
    assert named_files(environment) == [certificates]


def test_the_image_is_in_every_step_of_the_graph() -> None:
    plain, ours = (yaml.safe_load(_graph("retrain", image)) for image in (None, "rewardloop-cpu:1"))
    images = {executor["container"]["image"] for executor in ours["deploymentSpec"]["executors"].values()}
    assert images == {"rewardloop-cpu:1"}
    for executor in (*plain["deploymentSpec"]["executors"].values(), *ours["deploymentSpec"]["executors"].values()):
        del executor["container"]["image"]
    assert plain == ours


def test_an_engine_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    with pytest.raises(BadInputError, match="no container engine answers") as refused:
        check_image("rewardloop-cpu:1", "code")
    for mend in ("runner.kind", "DOCKER_HOST", "subprocess"):
        assert mend in str(refused.value)
    assert end_containers(tmp_path) == 0
