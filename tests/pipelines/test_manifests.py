"""``compile --kubernetes``: what a repository can hold of a deployment."""

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from pipelines.__main__ import app
from pipelines.compile import PIPELINES, compiled
from pipelines.manifests import five_fields
from rewardloop.cli.graphs import mark
from rewardloop.config import load_settings
from rewardloop.errors import BadInputError

CLUSTER = Path("conf/cluster.yaml")
VERSIONS = ("1.29", "1.37")
"""Of Kubernetes, the oldest and the newest that is looked at."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    folder = tmp_path_factory.mktemp("manifests")
    command = ["compile", "-c", str(CLUSTER), "--kubernetes", str(folder), "--endpoint", "http://pipelines:8888"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("wrote") == 3
    return {path.name: list(yaml.safe_load_all(path.read_text())) for path in folder.iterdir()}


def of_kind(written: dict[str, list[Any]], kind: str) -> Any:
    [found] = [one for all_ in written.values() for one in all_ if one["kind"] == kind]
    return found


@pytest.mark.parametrize("kind", ["CronJob", "ConfigMap"])
@pytest.mark.parametrize("version", VERSIONS)
def test_plain_objects_are_valid(written: dict[str, list[Any]], kind: str, version: str) -> None:
    kubernetes_validate.validate(of_kind(written, kind), version, strict=True)


def test_a_wrong_object_would_be_found(written: dict[str, list[Any]]) -> None:
    wrong = json.loads(json.dumps(of_kind(written, "CronJob")))
    wrong["spec"]["jobTemplate"]["spec"]["template"]["spec"]["tolerations"] = [{"tolerationSecond": 1}]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_pipeline_and_version_are_the_placed_graph(written: dict[str, list[Any]]) -> None:
    pipeline, version = of_kind(written, "Pipeline"), of_kind(written, "PipelineVersion")
    assert pipeline["apiVersion"] == version["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "rewardloop-retrain-and-align"
    placement = load_settings(CLUSTER).settings.placement
    graph, platform = yaml.safe_load_all(compiled(PIPELINES["retrain-and-align"], placement))
    assert version["spec"]["pipelineSpec"] == graph
    assert version["spec"]["platformSpec"] == platform
    # By this rewardloop submit finds it.
    assert mark("retrain-and-align", placement) in version["spec"]["description"]
    assert version["metadata"]["name"] == f"rewardloop-retrain-and-align-{version['spec']['displayName']}"


def test_the_recurring_run_submits_with_the_same_settings(written: dict[str, list[Any]], tmp_path: Path) -> None:
    job, settings = of_kind(written, "CronJob"), of_kind(written, "ConfigMap")
    assert (job["spec"]["schedule"], job["spec"]["timeZone"]) == ("0 3 * * *", "Etc/UTC")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert [*container["command"], *container["args"]][2:6] == ["rewardloop.cli.main", "trigger", "--once", "--submit"]
    assert {"name": "KF_PIPELINES_ENDPOINT", "value": "http://pipelines:8888"} in container["env"]
    [mounted] = [one["configMap"]["name"] for one in pod["volumes"] if "configMap" in one]
    assert mounted == settings["metadata"]["name"]
    file = tmp_path / "settings.json"
    file.write_text(settings["data"]["settings.json"])
    assert load_settings(file).settings == load_settings(CLUSTER).settings


def test_nothing_secret_is_in_them_and_the_pod_is_restricted(written: dict[str, list[Any]]) -> None:
    pod = of_kind(written, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    keys = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
    assert keys["AWS_SECRET_ACCESS_KEY"] == {"name": "rewardloop-store", "key": "secret-key"}
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_kustomize_finds_every_file(written: dict[str, list[Any]]) -> None:
    [kustomization] = written["kustomization.yaml"]
    assert set(kustomization["resources"]) == set(written) - {"kustomization.yaml"}


@pytest.mark.parametrize(("six", "five"), [("0 0 3 * * *", "0 3 * * *"), ("0 */15 8-18 ? * 1-5", "*/15 8-18 * * 1-5")])
def test_seconds_are_left_out(six: str, five: str) -> None:
    assert five_fields(six) == five


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "schedule.cron=30 0 3 * * *",
            "schedule.cron: .* starts at second '30'; a CronJob of Kubernetes has no seconds",
        ),
        ("organization=" + "a" * 50, "organization: .* is too long for manifests"),
        ("tracking.uri=http://me:hunter2@m", "tracking.uri: holds a user or a password"),
    ],
)
def test_bad_input_is_named(override: str, words: str, tmp_path: Path) -> None:
    command = ["compile", "-c", str(CLUSTER), "--set", override, "--kubernetes", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, command)
    assert isinstance(shown.exception, BadInputError)
    assert re.search(words, str(shown.exception))
    assert not (tmp_path / "out").exists()
