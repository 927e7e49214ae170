"""``rewardloop doctor``: a line per thing, the mend with each failure, and an exit code."""

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from rewardloop.cli.doctor import in_time
from rewardloop.cli.main import app
from rewardloop.config import Settings
from rewardloop.operation.base_check import BaseSize, check_base
from rewardloop.operation.machine import alignment_bytes, check_disk, check_memory, run_bytes, training_bytes
from rewardloop.prerequisites import Finding


@pytest.fixture
def config(tmp_path: Path, tiny_base: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT", "KUBERNETES_SERVICE_HOST", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    content = {
        "organization": "o",
        "home": str(tmp_path / "home"),
        "store": {"url": str(tmp_path / "store")},
        "model": {"base": tiny_base},
        "tracking": {"timeout_seconds": 5},
    }
    path = tmp_path / "rewardloop.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def ask(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", "-c", str(config), *arguments])


def test_nothing_is_missing(config: Path) -> None:
    done = ask(config)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "Nothing is missing."
    assert "KF_PIPELINES_ENDPOINT is not set: runs stay on this machine" in done.output


def test_each_failure_names_the_setting(config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = ask(
        config, "--json", "--set", f"store.url={tmp_path}/file/x", "--set", "tracking.uri=http://127.0.0.1:9",
        "--set", f"model.base={tmp_path}/nowhere/model",
    )  # fmt: skip
    assert done.exit_code == 2
    bad = {one["check"]: one for one in json.loads(done.output) if one["state"] == "failed"}
    assert {name: one["mend"].split(",")[0] for name, one in bad.items()} == {
        "store": "store.url",
        "MLflow": "tracking.uri (or MLFLOW_TRACKING_URI)",
        "base model": "model.base",
    }


def test_hardware_that_is_not_there(config: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = ask(config, "--profile", "h100")
    assert done.exit_code == 2
    assert "--profile h100 is for a GPU, and this machine has no CUDA device" in done.output
    assert "change: --profile cpu" in done.output


def test_no_container_engine(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    done = ask(config, "--json", "--set", "runner.kind=docker", "--set", "runner.image=rewardloop-cpu:dev")
    assert done.exit_code == 2
    [bad] = [one for one in json.loads(done.output) if one["state"] == "failed"]
    assert (bad["check"], bad["mend"]) == ("container engine", "runner.kind or runner.image")
    assert "no container engine answers" in bad["found"]


def test_a_silent_server_does_not_hold_the_others_up() -> None:
    started = time.monotonic()
    found = in_time(
        [
            ("store", "store.url", lambda: time.sleep(30) or []),
            ("MLflow", "tracking.uri", lambda: [Finding("MLflow", "ok", "answers")]),
            ("image", "image", lambda: 1 / 0),
        ],
        0.3,
        meanwhile=lambda: [Finding("disk", "ok", "enough")],
    )
    assert time.monotonic() - started < 5
    assert [(one.check, one.state) for one in found] == [
        ("store", "failed"), ("MLflow", "ok"), ("image", "failed"), ("disk", "ok")
    ]  # fmt: skip
    assert found[0].found == "no answer within 0.3 s"
    assert "ZeroDivisionError" in found[2].found


def test_a_base_whose_parts_do_not_belong_together(tmp_path: Path, tiny_base: str) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "wrong")
    content = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(content | {"vocab_size": 10}))
    found, size = check_base("model.base", str(base), tmp_path)
    assert (found.state, size) == ("failed", None)
    assert "the model knows 10" in found.found


SIZE = BaseSize(weights=1000, layers=(100,) * 8, edges=50, converted=True)


def settings(tmp_path: Path, **sections: object) -> Settings:
    content = {"organization": "o", "home": str(tmp_path), "model": {"base": "x"}, **sections}
    return Settings.model_validate(content)


def test_estimates_worked_by_hand(tmp_path: Path) -> None:
    def training(**section: object) -> int:
        return training_bytes(settings(tmp_path, training=section), SIZE)

    assert training(method="full") == 4 * 1000 + 12 * 1000
    assert training(method="top_layers", top_layers=2) == 4 * 1000 + 12 * 200
    assert training(method="lora", lora_rank=4) == 4 * 1000 + 12 * 4 * 50
    assert training(method="full", processes=4, sharding="fsdp") == 16 * 1000 // 4
    align = {"prompts": "p", "lora_rank": 4, "lora_layers": 4}
    made = settings(tmp_path, align=align).align
    assert made is not None
    assert alignment_bytes(made, SIZE, SIZE) == 4 * 1000 + 12 * 4 * 50 // 2 + 4 * 1000
    full = settings(tmp_path, align=align | {"method": "full", "ppo": {"value": "reward_model"}}).align
    assert full is not None
    assert alignment_bytes(full, SIZE, SIZE) == 16 * 1000 + 4 * 1000 + 4 * 1000 + 16 * 1000
    # The conversion, the step's output and the registered copy; the checkpoint's optimizer.
    assert run_bytes(settings(tmp_path), SIZE, None, local_registry=True) == 4 * 1000 * 3 + 12 * 1000


def test_too_little_memory_and_disk(tmp_path: Path) -> None:
    huge = BaseSize(weights=10**14, layers=(10**13,), edges=10, converted=False)
    memory = check_memory(settings(tmp_path), huge, None)
    assert memory.state == "failed"
    assert memory.mend.startswith("training.method (lora, top_layers), a smaller base")
    disk = check_disk(settings(tmp_path / "not" / "yet"), huge, None, local_registry=True)
    assert disk.state == "failed"
    assert disk.mend.startswith("home, or rewardloop gc")
