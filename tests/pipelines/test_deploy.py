"""``python -m pipelines deploy|schedule|undeploy`` against a server that speaks Kubeflow Pipelines' API."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.deploy import Deployed, Scheduled, Undeployed, deploy, schedule, undeploy
from rewardloop.config import load_settings
from rewardloop.errors import BadInputError, RewardloopError
from tests.kubeflow import Cluster, kubeflow

PLACES = ["store.url=s3://feedback/store", "tracking.uri=http://mlflow.example.org", "align="]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    with kubeflow() as one:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", one.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in (
            "KFP_ENDPOINT",
            "KF_PIPELINES_SA_TOKEN_PATH",
            "KF_PIPELINES_UI_ENDPOINT",
            "MLFLOW_TRACKING_URI",
            "KUBECONFIG",
        ):
            monkeypatch.delenv(name, raising=False)
        yield one


def deployed(*overrides: str, places: list[str] = PLACES) -> Deployed:
    return deploy(load_settings(Path("conf/smoke.yaml"), [*places, *overrides]))


def scheduled(*overrides: str) -> Scheduled:
    return schedule(load_settings(Path("conf/smoke.yaml"), [*PLACES, *overrides]))


def undeployed(*, pipelines: bool = False) -> Undeployed:
    return undeploy(load_settings(Path("conf/smoke.yaml"), PLACES), pipelines=pipelines)


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
    trigger = next(one for one in cluster.things["versions"] if "trigger --once --submit" in one["text"])
    assert found["pipeline_version_reference"]["pipeline_version_id"] == trigger["pipeline_version_id"]
    assert done.schedule.created
    assert done.schedule.deleted == []


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
    assert (second.uploaded, second.schedule.created, second.schedule.deleted) == ([], False, [])
    assert (second.schedule.recurring_run, second.versions) == (first.schedule.recurring_run, first.versions)


def test_versions_are_named_by_commit_and_content(cluster: Cluster) -> None:
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    first, placed = deployed(), deployed("placement.default.image=registry/loop:2")
    for version in (*first.versions.values(), *placed.versions.values()):
        assert re.fullmatch(rf"{re.escape(commit)}-[0-9a-f]{{12}}", version)
    assert not set(first.versions.values()) & set(placed.versions.values())
    # A configuration that says nothing of the graph gives the same versions.
    assert deployed("training.epochs=3").versions == first.versions


@pytest.mark.parametrize(
    "change",
    [
        "schedule.cron=0 30 4 * * *",
        "schedule.enabled=false",
        "training.epochs=3",
        "placement.default.image=registry/loop:2",
    ],
)
def test_what_changed_is_replaced_and_there_is_never_none(cluster: Cluster, change: str) -> None:
    old = deployed().schedule.recurring_run
    cluster.changes.clear()
    done = deployed(change)
    assert (done.schedule.created, done.schedule.deleted) == (True, [old])
    assert [one.split()[:2] for one in cluster.changes if "recurringruns" in one] == [
        ["create", "recurringruns"],
        ["delete", "recurringruns"],
    ]
    assert recurring(cluster)["recurring_run_id"] == done.schedule.recurring_run != old
    assert done.uploaded == (["retrain", "trigger"] if "image" in change else [])


def test_what_somebody_switched_off_or_made_twice_is_mended(cluster: Cluster) -> None:
    deployed()
    cluster.add("recurringruns", {**recurring(cluster)})
    assert len(deployed().schedule.deleted) == 1
    recurring(cluster)["mode"] = "DISABLE"
    assert deployed().schedule.created
    assert recurring(cluster)["mode"] == "ENABLE"


def test_others_recurring_runs_stay(cluster: Cluster) -> None:
    cluster.add("recurringruns", {"display_name": "rewardloop-smoke-2"})
    deployed()
    assert len(cluster.things["recurringruns"]) == 2


def test_the_placed_graph_is_what_is_uploaded(cluster: Cluster) -> None:
    deployed("placement.default.image=registry/loop:2", "placement.service_account=runner")
    for version in cluster.things["versions"]:
        executors = next(yaml.safe_load_all(version["text"]))["deploymentSpec"]["executors"]
        assert {one["container"]["image"] for one in executors.values()} == {"registry/loop:2"}
    assert recurring(cluster)["service_account"] == "runner"


def test_the_example_of_a_cluster_is_deployed(cluster: Cluster) -> None:
    done = deploy(load_settings(Path("conf/cluster.yaml"), profile="a100"))
    assert done.uploaded == ["retrain-and-align", "trigger"]
    settings = json.loads(recurring(cluster)["runtime_config"]["parameters"]["settings"])
    # The profile travels resolved.
    assert settings["training"]["sharding"] == "fsdp"
    assert recurring(cluster)["service_account"] == "rewardloop-steps"


def test_without_what_places_tasks_the_mend_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pipelines.placement", None)
    with pytest.raises(BadInputError, match=r"kfp-kubernetes is not installed; run: pip install 'rewardloop\[cluster"):
        deployed("placement.default.image=registry/loop:2")
    # Graphs that ship need no cluster.
    assert deployed().uploaded == ["retrain", "trigger"]


def test_the_schedule_alone(cluster: Cluster) -> None:
    with pytest.raises(BadInputError, match=r"no version of rewardloop-retrain on the endpoint .*pipelines deploy"):
        scheduled()
    assert cluster.changes == []
    first = deployed()
    cluster.changes.clear()
    assert not scheduled().created
    assert cluster.changes == []
    done = scheduled("schedule.cron=0 30 4 * * *")
    assert (done.created, done.deleted) == (True, [first.schedule.recurring_run])
    assert not any("versions" in one or "pipelines" in one for one in cluster.changes)
    # Versions of another placement are others.
    with pytest.raises(BadInputError, match="was made of this rewardloop's graph for this placement"):
        scheduled("placement.default.image=registry/loop:2")


def test_undeploy_takes_away_what_deploy_made(cluster: Cluster) -> None:
    first = deployed()
    done = undeployed()
    assert (done.recurring_runs, done.versions) == ([first.schedule.recurring_run], {})
    assert cluster.things["recurringruns"] == []
    assert len(cluster.things["versions"]) == 2
    done = undeployed(pipelines=True)
    assert done.versions == {f"rewardloop-{name}": [version] for name, version in first.versions.items()}
    assert cluster.things["pipelines"] == cluster.things["versions"] == []
    again = undeployed(pipelines=True)
    assert (again.recurring_runs, again.versions) == ([], {})


def test_undeploy_leaves_pipelines_that_somebody_else_runs(cluster: Cluster) -> None:
    deployed()
    deployed("organization=other")
    cluster.changes.clear()
    with pytest.raises(BadInputError, match="rewardloop-other would be left without its pipeline"):
        undeployed(pipelines=True)
    assert cluster.changes == []
    assert len(undeployed().recurring_runs) == 1
    assert [one["display_name"] for one in cluster.things["recurringruns"]] == ["rewardloop-other"]


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
    for command, words in (("schedule", "is there already"), ("undeploy", "deleted"), ("undeploy", "nothing of it")):
        shown = CliRunner().invoke(app, [command, *options[1:]])
        assert shown.exit_code == 0, shown.output
        assert words in shown.output


# Bad input ------------------------------------------------------------------------------------------------------------
def test_no_endpoint_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    with pytest.raises(BadInputError, match="KF_PIPELINES_ENDPOINT: is not set, and there is neither a cluster"):
        deployed()


def test_nobody_answers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BadInputError, match="KF_PIPELINES_ENDPOINT: no Kubeflow Pipelines answers at http://127"):
        deployed()
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    monkeypatch.setenv("KFP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BadInputError, match=r"^KFP_ENDPOINT: no Kubeflow Pipelines answers"):
        deployed()


def test_the_clients_own_variable_goes_first(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_ENDPOINT", "http://127.0.0.1:9")
    assert deployed().schedule.created
    monkeypatch.setenv("KFP_ENDPOINT", cluster.url)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    assert not deployed().schedule.created


def test_a_token_is_needed_and_read_from_its_file(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster.token = "abc"
    with pytest.raises(BadInputError, match=r"refuses these credentials \(401 Unauthorized: no\)"):
        deployed()
    assert cluster.changes == []
    (tmp_path / "token").write_text("abc")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert deployed().schedule.created
    cluster.expired = True
    with pytest.raises(BadInputError, match=r"token has expired\]\)\. A token is read from .*kubectl create token"):
        deployed()


@pytest.mark.parametrize("status", [403, 500])
def test_a_quota_that_is_used_up_is_named(cluster: Cluster, status: int) -> None:
    said = 'scheduledworkflows.kubeflow.org "x" is forbidden: exceeded quota: team, used: count/scheduledworkflows=5'
    cluster.refused = (status, said)
    with pytest.raises(
        BadInputError, match=r"a quota of the cluster is used up: .*exceeded quota: team.*ResourceQuota"
    ):
        deployed()


def test_a_role_that_is_missing_is_named(cluster: Cluster) -> None:
    cluster.refused = (403, "User ci is not authorized with reason: pipelines.create")
    with pytest.raises(BadInputError, match=r"does not allow this .*pipelines.create.*kubeflow-pipelines-edit"):
        deployed()


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
        ([*PLACES[:2], "align.prompts=s3://a/b"], "align.prompts: 's3://a/b' is a URL; .* name its absolute path"),
        ([*PLACES, "trigger.inbox=inbox"], "trigger.inbox: 'inbox' is a folder of this machine"),
        ([*PLACES, "trigger.inbox=s3://labels/inbox"], "trigger.inbox: .* no key of the labelers' pseudonyms; give it"),
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
    spec = yaml.safe_load(Path("src/rewardloop/compiled/trigger.yaml").read_text())
    container = spec["deploymentSpec"]["executors"]["exec-submit-when-due"]["container"]
    assert container["args"] == ["{{$.inputs.parameters['settings']}}"]
    script = container["command"][2].replace("exec python -m rewardloop.cli.main trigger --once --submit -c", "cat")
    text = json.dumps({"a": 'it\'s "quoted" $HOME `x` \\n'})
    shown = subprocess.run([*container["command"][:2], script, text], capture_output=True, text=True, check=True)
    assert shown.stdout == text
