"""Write the report of a run, whatever became of it: the last thing every run does.

In: the folder of the run (``REWARDLOOP_RUN_DIR``; an exit handler is given no artifacts). Out: ``report.html`` there
and in the step's artifact, and the same with the blessing and the headline figures in the run's MLflow record.
"""

from datetime import datetime
from pathlib import Path

from rewardloop.errors import BadInputError
from rewardloop.evidence import Estimate, EvaluationEvidence, PolicyEvaluationEvidence
from rewardloop.reporting.outcome import outcome_of
from rewardloop.reporting.report import render_report
from rewardloop.reporting.run_evidence import REPORT_STEP, RunEvidence
from rewardloop.steps.step_run import RUN_DIR, run_folder, step_run


def publish_report(*, report: Path) -> None:
    """Write the report of the current run to ``report`` too.

    Raises:
        BadInputError: no run is set in the environment, or its folder holds no ``run.json``.
    """
    folder = run_folder()
    if folder is None:
        raise BadInputError(f"{RUN_DIR} is not set; it names the folder of the run that the report is about")
    with step_run(REPORT_STEP) as run:
        page = write_report(folder)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(page.read_bytes())
        run.produced = str(page)


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
    metrics = {"run_seconds": evidence.seconds}
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
