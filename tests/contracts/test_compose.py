"""``docker/compose.yaml`` keeps what it promises: no secret in it, everything pinned, hardened, and waited for."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

_FILE = Path("docker/compose.yaml")
_TEXT = _FILE.read_text(encoding="utf-8")
_COMPOSE = yaml.safe_load(_TEXT)
_SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
_EXAMPLE = Path("docker/.env.example").read_text(encoding="utf-8")
_SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|LABELER_KEY|TOKEN")
_ONCE = {
    name
    for service in _SERVICES.values()
    for name, wanted in service.get("depends_on", {}).items()
    if wanted["condition"] == "service_completed_successfully"
}


def test_the_parts_are_there() -> None:
    assert set(_SERVICES) == {"postgres", "s3", "buckets", "mlflow", "rewardloop"}
    assert {"buckets"} == _ONCE


@pytest.mark.parametrize("name", sorted(set(_SERVICES) - _ONCE))
def test_who_stays_has_a_healthcheck_and_is_started_again(name: str) -> None:
    assert _SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert _SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", _SERVICES)
def test_services_are_pinned_and_hardened(name: str) -> None:
    service = _SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(-\w+)?", tag) or service["image"].startswith("rewardloop-cpu:${"), tag
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Only the S3 store takes anything back: its start script hands the volume over and then gives root up.
    assert ("cap_add" in service) == (name == "s3")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", _SERVICES)
def test_secrets_come_from_outside(name: str) -> None:
    # `PASSWORD: ${PASSWORD:?what to set}`, never a value and never a default.
    for variable, value in _SERVICES[name].get("environment", {}).items():
        if _SECRET.search(variable):
            assert re.fullmatch(r"\$\{[A-Z0-9_]+:\?[^}]+\}", value), variable
    assert not re.search(r"://[^/\s]*:[^/\s]*@", str(_SERVICES[name]))


def test_dependencies_are_waited_for_until_they_work() -> None:
    for service in _SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] == ("service_completed_successfully" if name in _ONCE else "service_healthy")
    assert _COMPOSE["networks"]["back"] == {"internal": True}
    assert all("front" not in _SERVICES[name]["networks"] for name in ("postgres", "s3", "buckets"))


def test_every_variable_is_asked_for_and_in_the_example() -> None:
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", _TEXT))
    assert set(re.findall(r"\$\{([A-Z0-9_]+):\?", _TEXT)) == asked
    assert {line.partition("=")[0] for line in _EXAMPLE.splitlines() if line and line[0] != "#"} == asked
    assert all(line.endswith("=") for line in _EXAMPLE.splitlines() if line and line[0] != "#")


def test_mlflow_is_allowed_the_name_it_is_called_by() -> None:
    uri = _SERVICES["rewardloop"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    (hosts,) = [one for one in _SERVICES["mlflow"]["command"] if one.startswith("--allowed-hosts=")]
    assert uri in hosts.partition("=")[2].split(",")


def test_compose_itself_reads_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose")
    values = dict.fromkeys(re.findall(r"\$\{([A-Z0-9_]+)", _TEXT), "x")
    command = [docker, "compose", "-f", str(_FILE), "--profile", "serve", "config", "--quiet"]
    done = subprocess.run(command, env=os.environ | values, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    missing = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert missing.returncode != 0
