"""The last step of every run: the report on disk and in MLflow."""

from pathlib import Path

import pytest

from rewardloop.evidence import RunRecord, StepRecord
from rewardloop.reporting.notifications import URLS
from rewardloop.reporting.run_evidence import RunEvidence
from rewardloop.steps.publish_report import headline_metrics, publish_report, write_report
from tests import run_folders
from tests.receiver import receiving


def published(place: Path, trigger_reason: str = "by hand") -> None:
    publish_report(
        corpus_digest="c" * 64,
        config_digest="d" * 64,
        trigger_reason=trigger_reason,
        tracking_uri="",
        settings='{"organization": "film-reviews", "align": null, "notifications": {"events": ["failed"]}}',
        report=place,
    )


def _track(folder: Path, tracking_uri: str, run_id: str) -> None:
    place = folder / "run.json"
    record = RunRecord.model_validate_json(place.read_bytes())
    record.tracking_uri, record.mlflow_run_id = tracking_uri, run_id
    place.write_text(record.model_dump_json(), encoding="utf-8")


def test_report_of_a_failed_run_reaches_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folders.failed_run(tmp_path / "run")
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(folder))
    artifact = tmp_path / "kfp" / "publish-report" / "report"
    published(artifact)
    assert artifact.read_bytes() == (folder / "report.html").read_bytes()
    assert "Failed at train_reward_model." in artifact.read_text(encoding="utf-8")
    record = StepRecord.model_validate_json((folder / "steps" / "publish_report.json").read_bytes())
    assert (record.status, record.produced) == ("finished", str(folder / "report.html"))


def test_steps_that_share_no_folder_get_a_page_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that succeeded must not fail at its report."""
    for name in ("REWARDLOOP_RUN_DIR", "REWARDLOOP_HOME"):
        monkeypatch.delenv(name, raising=False)
    published(tmp_path / "kfp" / "report", trigger_reason="25 new <labels>")
    page = (tmp_path / "kfp" / "report").read_text(encoding="utf-8")
    assert "placement.home.claim" in page
    assert "25 new &lt;labels&gt;" in page


def test_on_a_cluster_the_parameters_say_what_the_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command line was there to write run.json: why it was started stands in the report all the same."""
    folder = run_folders.failed_run(tmp_path / "run")
    before = RunRecord.model_validate_json((folder / "run.json").read_bytes())
    (folder / "run.json").unlink()
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(folder))
    published(tmp_path / "report", trigger_reason="25 new labels")
    after = RunRecord.model_validate_json((folder / "run.json").read_bytes())
    assert (after.organization, after.pipeline, after.corpus_digest) == ("film-reviews", "retrain", "c" * 64)
    assert after.started_at >= before.started_at
    page = (tmp_path / "report").read_text(encoding="utf-8")
    assert "25 new labels" in page
    assert "Failed at train_reward_model." in page


@pytest.mark.parametrize("on_cluster", [True, False])
def test_on_a_cluster_people_are_told_by_this_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_cluster: bool
) -> None:
    """Elsewhere the command line tells them, and nobody wants the same message twice."""
    folder = run_folders.failed_run(tmp_path / "run")
    if on_cluster:
        (folder / "run.json").unlink()
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(folder))
    with receiving(200) as receiver:
        monkeypatch.setenv(URLS, receiver.url)
        published(tmp_path / "report", trigger_reason="25 new labels")
    assert [message["title"] for message in receiver.got] == (["film-reviews: the run failed"] if on_cluster else [])
    assert all("Failed at train_reward_model" in message["message"] for message in receiver.got)


def test_report_blessing_and_figures_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("film-reviews", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment)
    folder = run_folders.blessed_run(tmp_path / "run")
    _track(folder, uri, run.info.run_id)
    write_report(folder)
    write_report(folder)  # the command line writes it once more when the run is over
    logged = client.get_run(run.info.run_id).data
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"report.html", "blessing.json"}
    assert logged.metrics["accuracy"] == 0.878
    assert logged.metrics["false_block_rate"] == 0.264
    assert logged.metrics["threshold"] == 0.13
    assert len(client.get_metric_history(run.info.run_id, "accuracy")) == 1
    assert logged.tags["outcome"] == "blessed"


def test_a_silent_server_costs_a_warning_and_not_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = run_folders.blessed_run(tmp_path)
    _track(folder, "http://127.0.0.1:9", "0" * 32)
    assert write_report(folder).exists()
    said = capsys.readouterr().out
    assert said.startswith("Warning: the report was not logged to http://127.0.0.1:9: ")
    assert "127.0.0.1" in said.split(": ", 2)[2]


def test_figures_of_a_policy_stand_beside_those_of_the_reward_model(tmp_path: Path) -> None:
    metrics = headline_metrics(RunEvidence.read(run_folders.aligned_run(tmp_path)))
    assert metrics["accuracy"] == 0.878
    policy = {name: value for name, value in metrics.items() if name.startswith("policy_")}
    assert policy == pytest.approx(
        {
            "policy_reward_gain": 1.24,
            "policy_win_rate": 0.75,
            "policy_second_judge_win_rate": 38 / 60,
            "policy_kl": 5.03,
            "policy_length_ratio": 23.2 / 24.1,
            "policy_toxicity": 0.036,
        }
    )


def test_a_policy_that_was_not_measured_has_no_figures(tmp_path: Path) -> None:
    metrics = headline_metrics(RunEvidence.read(run_folders.alignment_failed_run(tmp_path)))
    assert "accuracy" in metrics
    assert not [name for name in metrics if name.startswith("policy_")]
