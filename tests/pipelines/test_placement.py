"""Where a step's pod goes: settings become KFP's own description of it, field by field."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import COMPILED, compile_to
from rewardloop.config import PlacementSettings, load_settings

EVERYTHING = {
    "home": {"claim": "loop-home", "path": "/rewardloop"},
    "default": {
        "image": "registry/cpu:1",
        "cpu_request": "500m",
        "cpu_limit": "2",
        "memory_request": "1Gi",
        "memory_limit": "4Gi",
        "image_pull_policy": "IfNotPresent",
        "image_pull_secrets": ["registry"],
        "node_selector": {"pool": "cpu"},
        "environment": {"HF_HOME": "/rewardloop/hub"},
        "secrets": {"store": {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}},
        "retries": {"times": 2, "backoff_seconds": 30, "backoff_factor": 1.5, "max_backoff_seconds": 300},
        "time_limit_seconds": 600,
    },
    "steps": {
        "train_reward_model": {
            "image": "registry/gpu:1",
            "accelerator": "nvidia.com/gpu",
            "accelerators": 2,
            "node_selector": {"pool": "small"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "shared_memory": "16Gi",
            "volumes": [{"claim": "hub", "path": "/hub", "sub_path": "models"}],
            "retries": {"times": 4},
        },
        "load_corpus": {"cache": False, "node_selector": {}},
        "validate_feedback": {"cache": True},
        "publish_report": {"cache": True, "retries": {"times": 0}},
    },
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("placed")
    compile_to(folder, PlacementSettings.model_validate(EVERYTHING))
    return folder


@functools.cache
def documents(folder: Path, name: str = "retrain") -> list[Any]:
    return list(yaml.safe_load_all((folder / f"{name}.yaml").read_text()))


def container(folder: Path, step: str, name: str = "retrain") -> dict[str, Any]:
    found: dict[str, Any] = documents(folder, name)[0]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    return found


def pod(folder: Path, step: str, name: str = "retrain") -> dict[str, Any]:
    executors = documents(folder, name)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found: dict[str, Any] = executors[f"exec-{step}"]
    return found


def tasks(folder: Path, name: str = "retrain") -> Iterator[tuple[str, dict[str, Any]]]:
    specification = documents(folder, name)[0]
    for component in (specification["root"], *specification["components"].values()):
        yield from component.get("dag", {}).get("tasks", {}).items()


def test_images_and_resources(compiled: Path) -> None:
    assert container(compiled, "load-corpus")["image"] == "registry/cpu:1"
    trained = container(compiled, "train-reward-model")
    assert trained["image"] == "registry/gpu:1"
    asked = trained["resources"]
    assert (asked["resourceCpuRequest"], asked["resourceCpuLimit"]) == ("500m", "2")
    assert (asked["resourceMemoryRequest"], asked["resourceMemoryLimit"]) == ("1Gi", "4Gi")
    assert asked["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert asked["accelerator"]["resourceCount"] == "2"
    assert "accelerator" not in container(compiled, "load-corpus")["resources"]


def test_pod_of_a_step_with_settings_of_its_own(compiled: Path) -> None:
    found = pod(compiled, "train-reward-model")
    assert found["nodeSelector"] == {"labels": {"pool": "small"}}
    assert found["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    [shared] = found["emptyDirMounts"]
    assert shared == {
        "volumeName": "shared-memory",
        "mountPath": "/dev/shm",
        "medium": "Memory",
        "sizeLimit": "16Gi",
    }
    mounted = [(one["constant"], one["mountPath"], one.get("subPath", "")) for one in found["pvcMount"]]
    assert mounted == [("loop-home", "/rewardloop", ""), ("hub", "/hub", "models")]
    assert found["activeDeadlineSeconds"] == "600"
    assert found["imagePullPolicy"] == "IfNotPresent"
    assert [one["secretName"] for one in found["imagePullSecret"]] == ["registry"]


def test_an_empty_setting_of_a_step_clears_the_defaults(compiled: Path) -> None:
    assert "nodeSelector" not in pod(compiled, "load-corpus")
    assert pod(compiled, "build-preferences")["nodeSelector"] == {"labels": {"pool": "cpu"}}


def test_secrets_are_references_and_environment_is_plain(compiled: Path) -> None:
    found = pod(compiled, "load-corpus")
    pairs = {
        (one["secretName"], key["secretKey"], key["envVar"]) for one in found["secretAsEnv"] for key in one["keyToEnv"]
    }
    assert pairs == {("store", "id", "AWS_ACCESS_KEY_ID"), ("store", "key", "AWS_SECRET_ACCESS_KEY")}
    plain = {one["name"]: one["value"] for one in container(compiled, "load-corpus")["env"]}
    assert plain == {"REWARDLOOP_HOME": "/rewardloop", "HF_HOME": "/rewardloop/hub"}
    fields = {one["name"]: one["fieldPath"] for one in found["fieldPathAsEnv"]}
    assert fields["KFP_RUN_ID"] == "metadata.labels['pipeline/runid']"
    assert {"POD_NAME", "POD_UID", "POD_NAMESPACE"} < set(fields)
    assert found["podMetadata"] == {"labels": {"rewardloop/step": "load_corpus"}}


@pytest.mark.parametrize("name", ["retrain", "retrain-and-align"])
def test_retries_and_caching(compiled: Path, name: str) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for task, specification in tasks(compiled, name):
        found.setdefault(task.rstrip("-234"), []).append(specification)
    assert found["train-reward-model"][0]["retryPolicy"]["maxRetryCount"] == 4
    policy = found["build-preferences"][0]["retryPolicy"]
    assert (policy["backoffDuration"], policy["backoffFactor"], policy["backoffMaxDuration"]) == ("30s", 1.5, "300s")
    assert "retryPolicy" not in found["publish-report"][0]
    cached = {task for task, all_ in found.items() if any(one.get("cachingOptions") for one in all_)}
    # What changes something outside is never cached, also where the placement says true.
    uncached = {"publish-report", "check-prerequisites", "decide-promotion", "register-models", "load-corpus"}
    assert not cached & uncached
    assert {"validate-feedback", "build-preferences", "train-reward-model", "evaluate-reward-model"} <= cached


def test_every_task_of_every_graph_is_placed(compiled: Path) -> None:
    for name in ("retrain", "retrain-and-align", "trigger"):
        executors = documents(compiled, name)[0]["deploymentSpec"]["executors"]
        assert {one["container"]["image"] for one in executors.values()} <= {"registry/cpu:1", "registry/gpu:1"}
        assert set(executors) == {
            *documents(compiled, name)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        }


def test_placing_changes_nothing_else(compiled: Path) -> None:
    """Without what a placement adds, the graph is the shipped one."""
    for name in ("retrain", "retrain-and-align", "trigger"):
        placed, [shipped] = documents(compiled, name)[0], documents(COMPILED, name)
        for executor, given in shipped["deploymentSpec"]["executors"].items():
            mine = placed["deploymentSpec"]["executors"][executor]["container"]
            assert {"command", "args"} & set(mine) == {"command", "args"} & set(given["container"])
            assert mine.get("command") == given["container"].get("command")
        assert {key: sorted(value) for key, value in shipped["components"].items()} == {
            key: sorted(value) for key, value in placed["components"].items()
        }
        assert placed["root"]["inputDefinitions"] == shipped["root"]["inputDefinitions"]


def test_an_empty_placement_is_the_shipped_graph(tmp_path: Path) -> None:
    for file in compile_to(tmp_path, PlacementSettings()):
        assert file.read_text() == (COMPILED / file.name).read_text()


def test_two_pools_and_a_spot_one_in_the_example(tmp_path: Path) -> None:
    settings = load_settings(Path("conf/cluster.yaml")).settings
    compile_to(tmp_path, settings.placement)
    pools = {
        step: pod(tmp_path, step, "retrain-and-align")["nodeSelector"]["labels"]["pool"]
        for step in ("load-corpus", "train-reward-model", "align-policy", "generate-references")
    }
    assert pools == {
        "load-corpus": "cpu",
        "train-reward-model": "gpu-small",
        "align-policy": "gpu-large",
        "generate-references": "gpu-spot",
    }
    counts = {
        step: container(tmp_path, step, "retrain-and-align")["resources"]["accelerator"]["resourceCount"]
        for step in ("train-reward-model", "align-policy", "generate-references")
    }
    assert counts == {"train-reward-model": "2", "align-policy": "8", "generate-references": "1"}
    assert "accelerator" not in container(tmp_path, "load-corpus", "retrain-and-align")["resources"]
    assert "hunter2" not in json.dumps(documents(tmp_path, "retrain-and-align"))
