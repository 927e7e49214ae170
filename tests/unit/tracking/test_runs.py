"""Runs in MLflow: one parent, children per step, nothing ended that is not ours."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from rewardloop.errors import BadInputError
from rewardloop.evidence import RunRecord
from rewardloop.tracking.connection import connect
from rewardloop.tracking.runs import current_run, end_run, log_step, start_parent_run, start_step


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def uri(home: Path) -> str:
    return connect(None, home, 5)


def _record(**settings: str) -> RunRecord:
    return RunRecord(
        run_id="20260101T000000-abc",
        organization="acme",
        corpus_digest="c" * 64,
        config_digest="d" * 64,
        started_at="2026-01-01T00:00:00+00:00",
        settings=settings,
        origins=dict.fromkeys(settings, "default"),
    )


def test_settings_origins_and_steps_are_logged(uri: str, home: Path, tmp_path: Path) -> None:
    settings = {f"section.key{number}": "x" for number in range(150)} | {"long": "y" * 7000, "odd[key]": "z"}
    parent = start_parent_run(uri, _record(**settings), home=home, again="a better base")
    curve = [(step, 1 / step) for step in range(1, 1501)]
    child = log_step(uri, parent, "train_reward_model", metrics={"accuracy": 0.75}, curves={"loss": curve})
    client = MlflowClient(uri)
    assert client.get_run(parent).info.status == "RUNNING"
    end_run(uri, parent, status="FINISHED")

    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert len(run.data.params) == 152
    assert run.data.params["long"] == "y" * 6000
    assert run.data.params["odd_key_"] == "z"
    assert run.data.tags["rewardloop.again"] == "a better base"
    assert run.info.artifact_uri.startswith(f"file://{home}/mlartifacts/acme/")
    assert {item.path for item in client.list_artifacts(parent)} == {"settings.json", "origins.json"}
    step = client.get_run(child)
    assert step.info.run_name == "train_reward_model"
    assert step.data.tags["mlflow.parentRunId"] == parent
    assert step.data.metrics["accuracy"] == 0.75
    assert [point.value for point in client.get_metric_history(child, "loss")] == [value for _, value in curve]


def test_a_run_given_from_outside_is_used_and_left_open(uri: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(uri)
    given = client.create_run(client.create_experiment("of the plugin", artifact_location=home.as_uri())).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert start_parent_run(uri, _record(a="1"), home=home, again=None) == given
    end_run(uri, given, status="FINISHED")
    assert client.get_run(given).info.status == "RUNNING"
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    with pytest.raises(BadInputError, match="MLFLOW_RUN_ID"):
        start_parent_run(uri, _record(a="1"), home=home, again=None)


def test_current_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REWARDLOOP_TRACKING_URI", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REWARDLOOP_MLFLOW_RUN_ID", "abc")
    assert current_run() is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    assert current_run() is None
    monkeypatch.setenv("MLFLOW_RUN_ID", "of the plugin")
    assert current_run() == ("http://mlflow", "of the plugin")
    monkeypatch.setenv("REWARDLOOP_TRACKING_URI", "sqlite:///x.db")
    assert current_run() == ("sqlite:///x.db", "abc")


def test_a_run_that_was_cut_short_goes_on_in_its_mlflow_run(uri: str, home: Path) -> None:
    client = MlflowClient(uri)
    first = _record(seed="0", place="/a").model_copy(update={"run_id": "cut", "trigger_reason": "37 new labels"})
    parent = start_parent_run(uri, first, home=home, again=None)
    killed = start_step(client, parent, "register_models").info.run_id
    # Nothing but the run's tags is needed to find it: the process that knew its id is gone.
    second = first.model_copy(update={"attempt": 2, "settings": {"seed": "0", "place": "/b", "new": "1"}})
    assert start_parent_run(uri, second, home=home, again=None) == parent
    run = client.get_run(parent)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"seed": "0", "place": "/a", "new": "1"}
    assert run.data.tags["rewardloop.trigger"] == "37 new labels"
    assert run.data.tags["rewardloop.attempt"] == "2"
    assert client.get_run(killed).info.status == "KILLED"
    # A failed run that is tried again is at work again.
    end_run(uri, parent, status="FAILED")
    assert start_parent_run(uri, second, home=home, again=None) == parent
    assert client.get_run(parent).info.status == "RUNNING"
    other = start_parent_run(uri, first.model_copy(update={"run_id": "another"}), home=home, again=None)
    assert other != parent
