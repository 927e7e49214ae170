"""The state of the loop in one look: what waits, what runs, who is champion, what comes next.

In: settings, the feedback store, the registry. Out: ``StatusReport``, the same as a table and as JSON. Looking repairs
what MLflow shows of the history; a registry or a drift report that cannot be read is said and hides nothing else.
"""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from rewardloop.config import Settings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.evidence import RunRecord
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claim_files import ClaimState, read_claims
from rewardloop.operation.drift_reports import latest_drift
from rewardloop.operation.pending import pending
from rewardloop.operation.schedule import next_start
from rewardloop.operation.status_report import ClaimLine, DriftLine, PendingLabels, RunLine, StatusReport
from rewardloop.operation.version_lines import champion_lines, version_lines
from rewardloop.storage import Storage

_RUNS = 5


def status(
    settings: Settings, store: FeedbackStore, config_digest: str | None, tracking_uri: str | None
) -> StatusReport:
    """Look at everything.

    Args:
        settings: the checked settings.
        store: the feedback store.
        config_digest: of the settings; None: labels that a run of any configuration has read are not new.
        tracking_uri: what ``connect`` returned; None where MLflow did not answer: there are no versions then.

    Raises:
        BadInputError: the store cannot be read.
    """
    now = datetime.now(UTC)
    problems: list[str] = []
    claims = read_claims(store.storage, now=now, lease_seconds=settings.claims.lease_seconds)
    waiting = pending(store, claims, store.current_corpus(settings.corpus), config=config_digest)
    names = (settings.model_name, settings.policy_name)
    champions = champion_lines(names, store.storage)
    in_use = next((line.version for line in champions if line.model == settings.model_name), None)
    return StatusReport(
        organization=settings.organization,
        at=now,
        pending=PendingLabels(
            batches=len(waiting.batches),
            labels=waiting.labels,
            needed=settings.trigger.min_new_labels,
            oldest_at=waiting.oldest_at,
        ),
        claims=[_claim_line(one) for one in claims],
        runs=_runs(Path(settings.home).resolve() / "runs", problems),
        champions=champions,
        versions=version_lines(names, store.storage, tracking_uri, problems),
        next_start=_next(settings, now, problems),
        drift=_drift(store.storage, in_use, problems),
        problems=problems,
    )


def read_runs(folder: Path, problems: list[str]) -> list[tuple[Path, RunRecord]]:
    """Folder and record of every run of this machine, newest first; what cannot be read is added to ``problems``."""
    found = []
    for path in folder.glob("*/run.json"):
        try:
            found.append((path.parent, RunRecord.model_validate_json(path.read_bytes())))
        except (ValidationError, OSError) as error:
            problems.append(f"{path}: cannot be read: {str(error).splitlines()[0]}")
    return sorted(found, key=lambda one: (one[1].started_at, one[0].name), reverse=True)


def _runs(folder: Path, problems: list[str]) -> list[RunLine]:
    return [
        RunLine(
            run_id=record.run_id,
            status=record.status,
            started_at=record.started_at,
            seconds=record.seconds,
            reason=record.trigger_reason,
            report=str(place / "report.html") if (place / "report.html").is_file() else None,
        )
        for place, record in read_runs(folder, problems)[:_RUNS]
    ]


def _claim_line(claim: ClaimState) -> ClaimLine:
    return ClaimLine(
        corpus=claim.corpus,
        config=claim.config,
        run_id=claim.run_id,
        owner=str(claim.owner),
        state="submitted" if claim.is_submitted else claim.state,
        at=claim.at,
        last_beat=claim.last_beat,
        reason=claim.reason,
        outcome=claim.outcome.status if claim.outcome else None,
    )


def _next(settings: Settings, now: datetime, problems: list[str]) -> datetime | None:
    if not settings.schedule.enabled:
        return None
    try:
        return next_start(settings.schedule.cron, now)
    except BadInputError as error:
        problems.append(str(error))
        return None


def _drift(storage: Storage, version: str | None, problems: list[str]) -> DriftLine | None:
    """Of the champion: what an earlier version met says nothing of this one."""
    if version is None:
        return None
    try:
        report = latest_drift(storage, version)
    except RewardloopError as error:
        problems.append(str(error))
        return None
    if report is None:
        return None
    return DriftLine(version=report.version, at=report.at, drifted=report.drifted, reasons=report.reasons)
