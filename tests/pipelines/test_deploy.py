"""``python -m pipelines deploy`` against a server that speaks Kubeflow Pipelines' API: done twice it is done once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.deploy import Deployed, deploy
from rewardloop.cli.kubeflow import with_image
from rewardloop.config import load_settings
from rewardloop.errors import BadInputError, RewardloopError
from tests.kubeflow import Cluster, kubeflow

PLACES = ["store.url=s3://feedback/store", "tracking.uri=http://mlflow.example.org", "align="]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    with kubeflow() as one:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", one.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT", "MLFLOW_TRACKING_URI", "KUBECONFIG"):
            monkeypatch.delenv(name, raising=False)
        yield one


def deployed(*overrides: str, places: list[str] = PLACES) -> Deployed:
    return deploy(load_settings(Path("conf/smoke.yaml"), [*places, *overrides]))


def recurring(cluster: Cluster) -> dict[str, Any]:
    [one] = cluster.things["recurringruns"]
    return one


def test_everything_is_there_after_the_first_time(cluster: Cluster) -> None:
    done = deployed()
    assert [one["display_name"] for one in cluster.things["pipelines"]] == ["rewardloop-retrain", "rewardloop-trigger"]
    assert done.uploaded == ["retrain", "trigger"]
    assert [one["display_name"] for one in cluster.things["versions"]] == list(done.versions.values())
    found = recurring(cluster)
    assert found["display_name"] == "rewardloop-smoke"
    assert found["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert (int(found["max_concurrency"]), found["no_catchup"], found["mode"]) == (1, True, "ENABLE")
    trigger = next(one for one in cluster.things["versions"] if "submit --when-due" in one["text"])
    assert found["pipeline_version_reference"]["pipeline_version_id"] == trigger["pipeline_version_id"]
    assert done.created
    assert done.deleted == []


def test_the_pod_gets_the_same_configuration(cluster: Cluster, tmp_path: Path) -> None:
    deployed()
    file = tmp_path / "no-suffix"
    file.write_text(recurring(cluster)["runtime_config"]["parameters"]["settings"])
    here, there = (load_settings(path, more) for path, more in ((Path("conf/smoke.yaml"), PLACES), (file, [])))
    assert there.settings == here.settings
    assert there.digest == here.digest


def test_the_second_time_changes_nothing(cluster: Cluster) -> None:
    first = deployed()
    cluster.changes.clear()
    second = deployed()
    assert cluster.changes == []
    assert (second.uploaded, second.created, second.deleted) == ([], False, [])
    assert (second.recurring_run, second.versions) == (first.recurring_run, first.versions)


@pytest.mark.parametrize(
    "change",
    ["schedule.cron=0 30 4 * * *", "schedule.enabled=false", "training.epochs=3", "schedule.image=registry/loop:2"],
)
def test_what_changed_is_replaced_and_there_is_never_none(cluster: Cluster, change: str) -> None:
    old = deployed().recurring_run
    cluster.changes.clear()
    done = deployed(change)
    assert (done.created, done.deleted) == (True, [old])
    assert [one.split()[:2] for one in cluster.changes if "recurringruns" in one] == [
        ["create", "recurringruns"],
        ["delete", "recurringruns"],
    ]
    assert recurring(cluster)["recurring_run_id"] == done.recurring_run != old
    assert done.uploaded == (["retrain", "trigger"] if "image" in change else [])


def test_what_somebody_switched_off_or_made_twice_is_mended(cluster: Cluster) -> None:
    deployed()
    cluster.add("recurringruns", {**recurring(cluster)})
    assert len(deployed().deleted) == 1
    recurring(cluster)["mode"] = "DISABLE"
    assert deployed().created
    assert recurring(cluster)["mode"] == "ENABLE"


def test_others_recurring_runs_stay(cluster: Cluster) -> None:
    cluster.add("recurringruns", {"display_name": "rewardloop-smoke-2"})
    deployed()
    assert len(cluster.things["recurringruns"]) == 2


def test_every_step_gets_the_image() -> None:
    text = Path("src/rewardloop/compiled/retrain.yaml").read_text()
    executors = yaml.safe_load(with_image(text, "registry/loop:2"))["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {"registry/loop:2"}
    assert set(executors) == set(yaml.safe_load(text)["deploymentSpec"]["executors"])


def test_the_command_says_what_it_did(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from pipelines.__main__ import app

    options = ["deploy", "-c", "conf/smoke.yaml", *(part for place in PLACES for part in ("--set", place))]
    first, second = (CliRunner().invoke(app, options) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "pipeline rewardloop-trigger: version" in first.output
    assert first.output.count("uploaded") == 2
    assert second.output.count("is there already") == 3
    assert "03:00:00 UTC" in second.output


# Bad input ------------------------------------------------------------------------------------------------------------
def test_no_endpoint_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    with pytest.raises(BadInputError, match="KF_PIPELINES_ENDPOINT: is not set, and there is neither a cluster"):
        deployed()


def test_nobody_answers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BadInputError, match="KF_PIPELINES_ENDPOINT: no Kubeflow Pipelines answers at http://127"):
        deployed()


def test_a_token_is_needed_and_read_from_its_file(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster.token = "abc"
    with pytest.raises(BadInputError, match=r"refuses these credentials \(401 Unauthorized\)"):
        deployed()
    assert cluster.changes == []
    (tmp_path / "token").write_text("abc")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert deployed().created


def test_a_server_that_fails_is_named_with_its_reason(cluster: Cluster) -> None:
    cluster.broken = True
    with pytest.raises(RewardloopError, match="503 Service Unavailable: the database is away"):
        deployed()


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["align=", "store.url=s3://a/b"], "tracking.uri: is not set, and the default is a file of this machine"),
        (["align=", "tracking.uri=http://m"], "store.url: '.rewardloop/store' is a folder of this machine"),
        (["align=", "tracking.uri=http://me:hunter2@m", "store.url=s3://a/b"], "tracking.uri: holds a user or a pass"),
        (PLACES[:2], "align.prompts: 'conf/smoke-prompts.jsonl' is a folder of this machine"),
        ([*PLACES, "schedule.cron=0 3 * * *"], "has 5 fields, Kubeflow Pipelines takes six: second minute hour"),
        ([*PLACES, "schedule.cron=0 99 3 * * *"], "out of range"),
    ],
)
def test_what_pods_cannot_use_is_refused_before_anything_is_done(
    cluster: Cluster, places: list[str], words: str
) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        deployed(places=places)
    assert "hunter2" not in str(caught.value)
    assert cluster.changes == []


def test_the_graph_that_recurs_runs_the_command_line() -> None:
    """What the container runs, run here: settings arrive whole, whatever quotes they hold."""
    import subprocess

    spec = yaml.safe_load(Path("src/rewardloop/compiled/trigger.yaml").read_text())
    container = spec["deploymentSpec"]["executors"]["exec-submit-when-due"]["container"]
    assert container["args"] == ["{{$.inputs.parameters['settings']}}"]
    script = container["command"][2].replace("exec python -m rewardloop.cli.main submit --when-due -c", "cat")
    text = json.dumps({"a": 'it\'s "quoted" $HOME `x` \\n'})
    shown = subprocess.run([*container["command"][:2], script, text], capture_output=True, text=True, check=True)
    assert shown.stdout == text
