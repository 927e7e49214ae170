"""Write the report of a run, whatever became of it: the last thing every run does.

In: the folder of the run (``REWARDLOOP_RUN_DIR``; an exit handler is given no artifacts). Out: ``report.html`` there
and in the step's artifact, and the same with the blessing and the headline figures in the run's MLflow record. On a
laptop the command line has written what the run is (``run.json``) and tells people how it ended; on a cluster nobody
has, so this step does both. A cluster whose steps share no folder gets a page that says so: a run must not fail for its
report.
"""

import html
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rewardloop.config import NotificationSettings
from rewardloop.evidence import Estimate, EvaluationEvidence, PolicyEvaluationEvidence, RunRecord, StepRecord
from rewardloop.reporting.messages import notify_outcome
from rewardloop.reporting.outcome import outcome_of
from rewardloop.reporting.report import render_report
from rewardloop.reporting.run_evidence import REPORT_STEP, RunEvidence, step_metrics
from rewardloop.steps.step_run import run_folder, step_run

_NO_FOLDER = """<!doctype html><meta charset="utf-8"><title>No report</title>
<h1>This run has no report</h1>
<p>Why it was started: {reason}.</p>
<p>Its steps share no folder, so nothing of what they found reached this page. Their evidence is among the artifacts of
each step. To get a report, give all steps one volume: placement.home.claim and placement.home.path in the
configuration, then deploy again.</p>
"""


def publish_report(
    *,
    corpus_digest: str,
    config_digest: str,
    trigger_reason: str,
    tracking_uri: str,
    settings: str,
    report: Path,
) -> None:
    """Write the report of the current run to ``report`` too.

    Args:
        corpus_digest: what the run was trained on.
        config_digest: the settings that can change a model.
        trigger_reason: why the run was started; shown with its lineage.
        tracking_uri: MLflow's URI.
        settings: JSON of ``organization`` and the sections ``align`` and ``notifications``, others may be with them.
        report: where the page is written.

    Raises:
        BadInputError: ``run.json`` in the folder of the run cannot be read.
    """
    folder = run_folder()
    if folder is None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(_NO_FOLDER.format(reason=html.escape(trigger_reason or "not said")), encoding="utf-8")
        print("No report: the steps of this run share no folder; see placement.home")
        return
    sections = json.loads(settings)
    with step_run(REPORT_STEP) as run:
        told_elsewhere = (folder / "run.json").exists()
        if not told_elsewhere:
            _describe(
                folder,
                organization=sections["organization"],
                pipeline="retrain-and-align" if sections.get("align") else "retrain",
                corpus_digest=corpus_digest,
                config_digest=config_digest,
                trigger_reason=trigger_reason,
                tracking_uri=tracking_uri,
            )
        page = write_report(folder)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(page.read_bytes())
        run.produced = str(page)
        if not told_elsewhere:
            wanted = NotificationSettings.model_validate(sections.get("notifications", {}))
            notify_outcome(wanted, RunEvidence.read(folder))


def _describe(folder: Path, **known: Any) -> None:
    """Write ``run.json`` as far as the parameters of the run and the records of its steps know it."""
    records = [StepRecord.model_validate_json(path.read_bytes()) for path in (folder / "steps").glob("[!.]*.json")]
    ran = [record.started_at for record in records if record.status != "cached"]
    record = RunRecord(
        run_id=folder.name,
        started_at=min(ran) if ran else datetime.now(UTC).isoformat(timespec="seconds"),
        mlflow_run_id=os.environ.get("MLFLOW_RUN_ID"),
        **known,
    )
    (folder / "run.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run's folder and log it to the run's MLflow record; the path of the report.

    MLflow not answering is printed and does not cost the report.

    Raises:
        BadInputError: ``run_dir`` holds no readable ``run.json``.
    """
    evidence = RunEvidence.read(run_dir)
    temporary = evidence.report.with_name(".report.html")
    temporary.write_text(render_report(evidence), encoding="utf-8")
    temporary.replace(evidence.report)
    if evidence.run.mlflow_run_id and evidence.run.tracking_uri:
        try:
            _log(evidence, evidence.run.mlflow_run_id, evidence.run.tracking_uri)
        except Exception as error:  # the report stands whatever the server does
            cause = str(error).splitlines()[0] if str(error) else "no message"
            print(f"Warning: the report was not logged to {evidence.run.tracking_uri}: {type(error).__name__}: {cause}")
    return evidence.report


def headline_metrics(evidence: RunEvidence) -> dict[str, float]:
    """The figures by which runs are compared, by metric name."""
    metrics = {"run_seconds": evidence.seconds} | step_metrics(evidence)
    if evidence.evaluation:
        metrics |= _reward_model_metrics(evidence.evaluation)
    if evidence.policy_evaluation:
        metrics |= _policy_metrics(evidence.policy_evaluation)
    return metrics


def _reward_model_metrics(evaluation: EvaluationEvidence) -> dict[str, float]:
    threshold = evaluation.threshold
    estimates: dict[str, Estimate | None] = {
        "accuracy": evaluation.accuracy,
        "golden_accuracy": evaluation.golden_accuracy,
        "bag_of_words_accuracy": evaluation.bag_of_words,
        "length_only_accuracy": evaluation.length_only,
        "one_labeler_accuracy": evaluation.one_labeler,
        "over_champion": evaluation.champion.difference if evaluation.champion else None,
        "unacceptable_among_accepted": threshold.unacceptable_among_accepted,
        "false_accept_rate": threshold.false_accept_rate,
        "false_block_rate": threshold.false_block_rate,
        "accepted_share": threshold.accepted_share,
    }
    values: dict[str, float | None] = {name: estimate.value for name, estimate in estimates.items() if estimate}
    values |= {"accuracy_low": evaluation.accuracy.low, "accuracy_high": evaluation.accuracy.high}
    values |= {"ece": evaluation.ece, "brier": evaluation.brier, "threshold": threshold.threshold}
    values["flip_rate"] = evaluation.champion.flip_rate if evaluation.champion else None
    return {name: value for name, value in values.items() if value is not None}


def _policy_metrics(measured: PolicyEvaluationEvidence) -> dict[str, float]:
    metrics = {"policy_reward_gain": measured.reward.difference.value, "policy_kl": measured.kl.value}
    names = ("policy_win_rate", "policy_second_judge_win_rate")
    metrics |= {name: judge.win_rate.value for name, judge in zip(names, measured.judges, strict=False)}
    if measured.length.before.value > 0:
        metrics["policy_length_ratio"] = measured.length.after.value / measured.length.before.value
    if measured.toxicity:
        metrics["policy_toxicity"] = measured.toxicity[0].change.after.value
    return metrics


def _log(evidence: RunEvidence, run_id: str, tracking_uri: str) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(tracking_uri=tracking_uri)
    client.log_artifact(run_id, str(evidence.report))
    blessing = evidence.folder / "evidence" / "blessing.json"
    if blessing.exists():
        client.log_artifact(run_id, str(blessing))
    # The same moment each time: a report that is written again adds no second point to a figure's history.
    moment = int(datetime.fromisoformat(evidence.run.started_at).timestamp() * 1000)
    metrics = [Metric(name, value, moment, 0) for name, value in headline_metrics(evidence).items()]
    client.log_batch(run_id, metrics=metrics)
    client.set_tag(run_id, "outcome", outcome_of(evidence).kind)
