"""One drift check: a version's registered reference, the decisions logged since, the labels that came later.

In: the version in MLflow's registry and the feedback store. Out: a ``DriftReport``. No model is loaded.
"""

from datetime import datetime

import polars as pl

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.reference import REFERENCE, REFERENCE_FILE
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.decisions import read_decisions
from rewardloop.operation.drift import accepted_shares, compare, in_words
from rewardloop.operation.drift_reports import DriftReport, LateLabels
from rewardloop.operation.late_labels import late_labels
from rewardloop.tracking.registry import open_version


def registered_reference(model_uri: str, tracking_uri: str) -> pl.DataFrame:
    """``REFERENCE`` of ``models:/NAME/VERSION``, from files that are the registered ones.

    Raises:
        BadInputError: the version was registered without one.
        RewardloopError: its files are not the ones that were registered.
    """
    with open_version(model_uri, tracking_uri) as (directory, _):
        place = directory / REFERENCE_FILE
        if not place.is_file():
            raise BadInputError(
                f"{model_uri}: was registered without {REFERENCE_FILE}, so there is nothing to compare with; "
                "train it again: rewardloop run --again REASON"
            )
        reference = pl.read_parquet(place)
    if reference.schema != REFERENCE:
        raise BadInputError(f"{model_uri}: {REFERENCE_FILE} has the columns {dict(reference.schema)}; train it again")
    return reference


def check_drift(
    settings: Settings, store: FeedbackStore, *, version: str, reference: pl.DataFrame, since: datetime, at: datetime
) -> DriftReport:
    """Compare what ``version`` decided from ``since`` on with its reference.

    Args:
        settings: ``drift``, ``preferences`` and ``evaluation``.
        store: with the logged decisions and the batches.
        version: a number.
        reference: ``REFERENCE`` of that version.
        since, at: aware times; ``at`` is that of the check.
    """
    limits = settings.drift
    logged, broken = read_decisions(store.storage, since, version)
    distributions = compare(reference, logged, limits)
    late = late_labels(store, logged, settings)
    reasons = [in_words(line, limits) for line in distributions if line.drifted] + _disagreement(late, settings)
    drifted = bool(reasons)
    if len(logged) < limits.min_decisions:
        reasons.append(_too_few(len(logged), settings))
    return DriftReport(
        model=settings.model_name,
        version=version,
        at=at,
        since=since,
        reference=len(reference),
        decisions=len(logged),
        unscored=logged["score"].null_count(),
        needed=limits.min_decisions,
        max_psi=limits.max_psi,
        level=limits.level,
        drifted=drifted,
        reasons=reasons,
        distributions=distributions,
        accepted=accepted_shares(reference, logged, settings.evaluation.confidence),
        late=late,
        broken=broken,
    )


def _too_few(found: int, settings: Settings) -> str:
    sample = settings.serving.log.sample
    unlogged = " No decisions are logged here: set serving.log.sample." if not sample else ""
    return (
        f"too few decisions to say more: {found:,} are logged, {settings.drift.min_decisions:,} are needed "
        f"(drift.min_decisions); wait, or look further back with --days.{unlogged}"
    )


def _disagreement(late: LateLabels, settings: Settings) -> list[str]:
    reasons = []
    for line in late.lines:
        share = line.disagreement
        if line.drifted and share is not None:
            where = "" if line.segment is None else f" in segment {line.segment}"
            reasons.append(
                f"late labels{where}: {share.value:.1%} of {line.labeled:,} contradict the decision, surely more than "
                f"{share.low:.1%}, which is above drift.max_disagreement = {settings.drift.max_disagreement:g}"
            )
    return reasons
