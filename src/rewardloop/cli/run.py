"""``rewardloop run``: retrain on everything in the store, if there is something new.

In: settings and the store's current corpus. Out: a run folder with the report, the evidence and the log; an MLflow
run; and, when the candidate is blessed, a new champion. A corpus is trained once under the same settings.
"""

import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from rewardloop.cli.environment import set_for_run
from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.cli.text_sets import keep_text_sets
from rewardloop.config import LoadedSettings, Settings, flatten, without_password
from rewardloop.errors import BadInputError
from rewardloop.evidence import RunRecord
from rewardloop.storage import Storage

Status = Literal["blessed", "not blessed", "failed"]


def run(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    again: Annotated[
        str | None, typer.Option(metavar="REASON", help="Train although this corpus was trained with these settings.")
    ] = None,
) -> None:
    """Retrain on all feedback, and register the result if it passes the gate.

    Exit codes: 0 blessed, or nothing new; 1 a step failed; 2 bad input; 3 not blessed.
    """
    from rewardloop.feedback.store import FeedbackStore

    loaded = read_settings(config, overrides)
    store = FeedbackStore.open(_absolute(loaded.settings.store.url))
    corpus = store.current_corpus()
    if not corpus.batches:
        url = loaded.settings.store.url
        lines = [f"{url}: no feedback to train on; start with: rewardloop ingest FILE -c {config}"]
        if corpus.left_out:
            lines.append(f"or take a refused batch in: rewardloop accept BATCH --reason WHY -c {config}")
        lines += [f"  batch {digest[:12]} was {why}" for digest, why in corpus.left_out.items()]
        raise BadInputError("\n".join(lines))
    _check_devices(loaded.settings)
    text_sets = keep_text_sets(loaded.settings, store.storage)
    outcome = Outcome(store.storage, corpus.digest, _config_digest(loaded, text_sets))
    before = outcome.read()
    if before is not None and again is None:
        typer.echo(
            f"Nothing new: the {len(corpus.batches)} batch(es) in {loaded.settings.store.url} were trained with these "
            f"settings on {before['finished_at']} ({before['status']}).\nReport: {before['report']}\n"
            "To train on them once more: rewardloop run --again REASON"
        )
        return
    store.write_corpus(corpus)
    raise typer.Exit(_retrain(loaded, store.storage, corpus.digest, outcome, text_sets, again))


class Outcome:
    """What became of one corpus under one configuration, kept in the store."""

    def __init__(self, storage: Storage, corpus_digest: str, config_digest: str) -> None:
        self.storage = storage
        self.config_digest = config_digest
        self.name = f"claims/{corpus_digest}-{config_digest}.json"

    def read(self) -> dict[str, str] | None:
        """The record, or None when it was never trained."""
        if not self.storage.exists(self.name):
            return None
        content: dict[str, str] = json.loads(self.storage.read(self.name))
        return content

    def close(self, status: Status, report: Path, run_id: str, again: str | None) -> None:
        """Record a finished run; a failed one may simply be tried again."""
        record = {"status": status, "finished_at": _now(), "report": str(report), "run_id": run_id}
        self.storage.write(self.name, json.dumps(record | ({"again": again} if again else {}), indent=1).encode())


def _retrain(
    loaded: LoadedSettings,
    storage: Storage,
    corpus_digest: str,
    outcome: Outcome,
    text_sets: dict[str, str],
    again: str | None,
) -> int:
    from rewardloop.cli.local import run_pipeline
    from rewardloop.reporting.outcome import outcome_of
    from rewardloop.reporting.run_evidence import RunEvidence
    from rewardloop.reporting.summary import terminal_summary
    from rewardloop.steps.publish_report import write_report
    from rewardloop.tracking.connection import connect
    from rewardloop.tracking.history import History
    from rewardloop.tracking.runs import RUN_ID, TRACKING_URI, start_parent_run

    settings, home = loaded.settings, Path(loaded.settings.home).resolve()
    started = time.monotonic()
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{corpus_digest[:8]}-{secrets.token_hex(2)}"
    run_dir = home / "runs" / run_id
    # Before the run leaves a trace: an MLflow that does not answer is found out first.
    tracking_uri = connect(
        settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI"), home, settings.tracking.timeout_seconds
    )
    run_dir.mkdir(parents=True)
    set_for_run(home, run_dir)
    record = RunRecord(
        run_id=run_id,
        organization=settings.organization,
        corpus_digest=corpus_digest,
        config_digest=outcome.config_digest,
        pipeline="retrain-and-align" if settings.align else "retrain",
        started_at=_now(),
        tracking_uri=tracking_uri,
        settings={key: without_password(str(value)) for key, value in flatten(settings.model_dump(mode="json"))},
        origins=loaded.origins,
    )
    record.mlflow_run_id = start_parent_run(tracking_uri, record, home=home, again=again)
    os.environ.update({RUN_ID: record.mlflow_run_id, TRACKING_URI: tracking_uri})
    _write_record(run_dir, record)
    champion = History(storage, settings.model_name).champion()
    typer.echo(f"Run {run_id}: corpus {corpus_digest[:12]}, champion {champion.version if champion else 'none yet'}")
    try:
        run_pipeline(
            record.pipeline,
            {
                "store": storage.url,
                "corpus_digest": corpus_digest,
                "config_digest": outcome.config_digest,
                "code_version": code_version(),
                "champion": f"models:/{settings.model_name}/{champion.version}" if champion else "",
                "tracking_uri": tracking_uri,
                "data_settings": settings.section("validation", "preferences", "splits", "evaluation"),
                "training_settings": settings.section("model", "training", *_judge_sections(settings)),
                "evaluation_settings": settings.section("evaluation", "threshold"),
                "promotion_settings": settings.section("organization", "gate", "threshold", "align"),
            }
            | (_alignment(settings, text_sets) if settings.align else {}),
            root=home / "pipelines",
            run_dir=run_dir,
            caching=again is None,
        )
    finally:
        record.seconds = time.monotonic() - started
        _write_record(run_dir, record)
        verdict = outcome_of(RunEvidence.read(run_dir))
        record.status = status = verdict.kind
        _write_record(run_dir, record)
        if status != "failed":
            # First of all: what was registered must not be trained again because the rest went wrong.
            outcome.close(status, run_dir / "report.html", run_id, again)
        write_report(run_dir)
        _end(tracking_uri, record.mlflow_run_id, failed=status == "failed")
    typer.echo("\n" + terminal_summary(RunEvidence.read(run_dir)))
    if status == "failed":
        typer.echo(f"Log: {run_dir / 'log.txt'}", err=True)
    else:
        typer.echo(_next_commands(loaded, champion=status == "blessed" or champion is not None))
    return verdict.exit_code


def _check_devices(settings: Settings) -> None:
    """A device that this machine lacks is found out before a reward model is trained for it."""
    if settings.align is None:
        return
    from rewardloop.training.devices import choose_device

    choose_device(settings.align.device, "align.device")
    if settings.align.reward_url is None:
        choose_device(settings.align.reward_device, "align.reward_device")


def _config_digest(loaded: LoadedSettings, text_sets: dict[str, str]) -> str:
    """Digest of everything that can change a model: the settings, and the texts that they name."""
    if not text_sets:
        return loaded.digest
    return hashlib.sha256(json.dumps([loaded.digest, text_sets], sort_keys=True).encode()).hexdigest()


def _judge_sections(settings: Settings) -> list[str]:
    """What training reads besides: a judge that learns from half of the feedback leaves the candidate the other."""
    return ["policy_evaluation"] if settings.align and settings.policy_evaluation.judge == "base" else []


def _alignment(settings: Settings, text_sets: dict[str, str]) -> dict[str, str]:
    """Parameters that ``retrain-and-align`` has besides those of ``retrain``."""
    return {
        "text_sets": json.dumps(text_sets, sort_keys=True),
        "sft_settings": settings.section("model", "sft", "align"),
        "alignment_settings": settings.section("align"),
        "policy_settings": settings.section("align", "policy_evaluation", "evaluation", "model", "training"),
    }


def _end(tracking_uri: str, run_id: str, *, failed: bool) -> None:
    from mlflow.exceptions import MlflowException

    from rewardloop.tracking.runs import end_run

    try:
        end_run(tracking_uri, run_id, status="FAILED" if failed else "FINISHED")
    except MlflowException as error:  # the run is over all the same
        typer.echo(f"Warning: MLflow's run {run_id} could not be closed: {str(error).splitlines()[0]}", err=True)


def code_version() -> str:
    """Fingerprint of the library's code: KFP's cache does not see it, so the steps are told."""
    from importlib.resources import files

    package = Path(str(files("rewardloop")))
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _next_commands(loaded: LoadedSettings, *, champion: bool) -> str:
    command = "rewardloop" if shutil.which("rewardloop") else sys.argv[0]
    config = f"-c {loaded.path}"
    ask = f'score {config} --text "A quiet film that stays with you for days."' if champion else f"batches {config}"
    return "\n  ".join(
        [
            "Try next:",
            f"{command} {ask}",
            f"{command} ingest MORE_FEEDBACK {config} && {command} run {config}",
            f"{command} ui {config}",
        ]
    )


def _write_record(run_dir: Path, record: RunRecord) -> None:
    (run_dir / "run.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")


def _absolute(url: str) -> str:
    return url if "://" in url else str(Path(url).resolve())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
