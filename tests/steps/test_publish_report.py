"""The last step of every run: the report on disk and in MLflow."""

from pathlib import Path

import pytest

from rewardloop.errors import BadInputError
from rewardloop.evidence import RunRecord, StepRecord
from rewardloop.reporting.run_evidence import RunEvidence
from rewardloop.steps.publish_report import headline_metrics, publish_report, write_report
from tests import run_folders


def _track(folder: Path, tracking_uri: str, run_id: str) -> None:
    place = folder / "run.json"
    record = RunRecord.model_validate_json(place.read_bytes())
    record.tracking_uri, record.mlflow_run_id = tracking_uri, run_id
    place.write_text(record.model_dump_json(), encoding="utf-8")


def test_report_of_a_failed_run_reaches_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folders.failed_run(tmp_path / "run")
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(folder))
    artifact = tmp_path / "kfp" / "publish-report" / "report"
    publish_report(report=artifact)
    assert artifact.read_bytes() == (folder / "report.html").read_bytes()
    assert "Failed at train_reward_model." in artifact.read_text(encoding="utf-8")
    record = StepRecord.model_validate_json((folder / "steps" / "publish_report.json").read_bytes())
    assert (record.status, record.produced) == ("finished", str(folder / "report.html"))


def test_without_a_run_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REWARDLOOP_RUN_DIR", raising=False)
    with pytest.raises(BadInputError, match="REWARDLOOP_RUN_DIR is not set"):
        publish_report(report=tmp_path / "report")


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
