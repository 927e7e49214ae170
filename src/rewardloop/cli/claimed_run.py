"""A run whose claim this process holds, from its folder to its outcome.

In: settings, and a claim that is new or was taken over. Out: what ``retraining`` promises. A run that was cut short
goes on under its id, in its folder and its MLflow run: KFP's cache has the steps that finished, a training its
checkpoint, the registry the version. What a kill at any moment leaves behind is either found (claim, MLflow run and
version by their tags, history by its records) or written again (evidence, report).
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from rewardloop.cli.environment import set_for_run
from rewardloop.cli.local import run_pipeline, stop_pipeline
from rewardloop.cli.parameters import code_version, pipeline_name, pipeline_parameters, reason_of
from rewardloop.cli.run_result import RunResult
from rewardloop.cli.runners import Containers
from rewardloop.config import LoadedSettings, flatten, without_password
from rewardloop.evidence import RunRecord
from rewardloop.operation.claims import Claim, ClaimOutcome
from rewardloop.operation.processes import end_orphans
from rewardloop.storage import Storage


@dataclass
class ClaimedRun:
    """One attempt at a run."""

    loaded: LoadedSettings
    storage: Storage
    claim: Claim
    tracking_uri: str
    text_sets: dict[str, str]
    say: Callable[[str], None]
    containers: Containers | None = None
    """How steps are run in containers; None: they are processes."""

    def __post_init__(self) -> None:
        self.settings = self.loaded.settings
        self.home = Path(self.settings.home).resolve()
        self.run_id = self.claim.attempt.run_id
        self.run_dir = self.home / "runs" / self.run_id
        self.started = time.monotonic()

    def finish(self) -> RunResult:
        """Run the pipeline, close the claim, write the report, tell people.

        Raises:
            RewardloopError: the run was taken over by another process.
        """
        with self.claim.hold(on_lost=stop_pipeline), _environment_restored():
            record = self._start()
            champion = self._champion()
            resumed = f", attempt {record.attempt}: what finished before is kept" if record.attempt > 1 else ""
            named = f"version {champion}" if champion else "none yet"
            self.say(f"Run {self.run_id}: corpus {record.corpus_digest[:12]}, champion {named}{resumed}")
            try:
                self._run(record, champion)
            finally:
                # What another process goes on with is left alone.
                self.claim.check()
                self._close(record)
        return self._tell(record, champion)

    def _start(self) -> RunRecord:
        """The run's folder, without what an earlier attempt said of itself, and its MLflow run."""
        from rewardloop.tracking.outage import insist, outages_in_words
        from rewardloop.tracking.runs import RUN_ID, TRACKING_URI, start_parent_run

        attempt = self.claim.attempt
        if self.claim.number > 1:
            end_orphans(self.run_dir)
            for name in ("steps", "evidence", "tmp"):
                shutil.rmtree(self.run_dir / name, ignore_errors=True)
            for unfinished in self.run_dir.glob(".*"):
                unfinished.unlink()
        self.run_dir.mkdir(parents=True, exist_ok=True)
        set_for_run(self.home, self.run_dir)
        record = RunRecord(
            run_id=self.run_id,
            organization=self.settings.organization,
            corpus_digest=attempt.corpus,
            config_digest=attempt.config,
            trigger_reason=attempt.reason,
            again=attempt.again,
            attempt=self.claim.number,
            pipeline=pipeline_name(self.settings),
            started_at=self.claim.started_at.isoformat(timespec="seconds"),
            tracking_uri=self.tracking_uri,
            settings={
                key: without_password(str(value)) for key, value in flatten(self.settings.model_dump(mode="json"))
            },
            origins=self.loaded.origins,
        )
        with outages_in_words(f"run {self.run_id}", self.tracking_uri):
            record.mlflow_run_id = insist(
                "starting the run",
                lambda: start_parent_run(self.tracking_uri, record, home=self.home, again=attempt.again),
            )
        os.environ.update({RUN_ID: record.mlflow_run_id, TRACKING_URI: self.tracking_uri})
        write_record(self.run_dir, record)
        return record

    def _champion(self) -> str | None:
        """Who the candidate is compared with: the same as before where this run has promoted its version already."""
        from rewardloop.tracking.history import History
        from rewardloop.tracking.own_promotion import promotion_by_run

        history = History(self.storage, self.settings.model_name)
        own = promotion_by_run(history, self.run_id, self.tracking_uri) if self.claim.number > 1 else None
        champion = history.champion()
        return own.previous if own else (champion.version if champion else None)

    def _run(self, record: RunRecord, champion: str | None) -> None:
        # A repetition shares no result with what it repeats, but with its own earlier attempts.
        _, _, repetition = self.claim.stem.partition(".")
        run_pipeline(
            record.pipeline,
            pipeline_parameters(
                self.settings,
                store=self.storage.url,
                corpus_digest=record.corpus_digest,
                config_digest=record.config_digest,
                champion=champion,
                tracking_uri=self.tracking_uri,
                text_sets=self.text_sets,
                trigger_reason=reason_of(record.trigger_reason, record.again),
                code="-".join(filter(None, (code_version(), repetition))),
            ),
            root=self.home / "pipelines",
            run_dir=self.run_dir,
            containers=self.containers,
        )

    def _close(self, record: RunRecord) -> None:
        from rewardloop.reporting.outcome import outcome_of
        from rewardloop.reporting.run_evidence import RunEvidence

        record.seconds = time.monotonic() - self.started
        write_record(self.run_dir, record)
        evidence = RunEvidence.read(self.run_dir)
        record.status = status = outcome_of(evidence).kind
        write_record(self.run_dir, record)
        if status != "failed":
            # First of all: what was registered must not be trained again because the rest went wrong.
            self.claim.close(
                ClaimOutcome(
                    status=status,
                    finished_at=datetime.now(UTC),
                    report=str(evidence.report),
                    run_id=self.run_id,
                    version=evidence.registration.version if evidence.registration else None,
                )
            )
        close_run(self.run_dir)

    def _tell(self, record: RunRecord, champion: str | None) -> RunResult:
        from rewardloop.cli.next_commands import next_commands
        from rewardloop.reporting.messages import notify_outcome
        from rewardloop.reporting.outcome import outcome_of
        from rewardloop.reporting.run_evidence import RunEvidence
        from rewardloop.reporting.summary import terminal_summary

        evidence = RunEvidence.read(self.run_dir)
        outcome = outcome_of(evidence)
        self.say("\n" + terminal_summary(evidence))
        if outcome.kind == "failed":
            typer.echo(f"Log: {self.run_dir / 'log.txt'}", err=True)
        else:
            self.say(next_commands(self.loaded, champion=outcome.kind == "blessed" or champion is not None))
        notify_outcome(self.settings.notifications, evidence)
        return RunResult(outcome.kind, outcome.exit_code, self.run_id, evidence.report)


def close_run(run_dir: Path) -> None:
    """Write the report of a run that is over and end its MLflow run, unless that is done or the run was elsewhere."""
    place = run_dir / "run.json"
    if not place.is_file():
        return
    record = RunRecord.model_validate_json(place.read_bytes())
    if record.closed or record.status == "running":
        return
    from rewardloop.steps.publish_report import write_report

    write_report(run_dir)
    if record.tracking_uri and record.mlflow_run_id:
        _end(record.tracking_uri, record.mlflow_run_id, failed=record.status == "failed")
    record.closed = True
    write_record(run_dir, record)


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Write ``run.json``, whole or not at all."""
    temporary = run_dir / f".run.json.{os.getpid()}"
    temporary.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    temporary.replace(run_dir / "run.json")


def _end(tracking_uri: str, run_id: str, *, failed: bool) -> None:
    from mlflow.exceptions import MlflowException

    from rewardloop.tracking.runs import end_run

    try:
        end_run(tracking_uri, run_id, status="FAILED" if failed else "FINISHED")
    except MlflowException as error:  # the run is over all the same
        typer.echo(f"Warning: MLflow's run {run_id} could not be closed: {str(error).splitlines()[0]}", err=True)


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    """Whoever waits for the next trigger in this process must not look like a part of this run."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        tempfile.tempdir = None  # Python remembers the run's
        sys.stdout.flush()
