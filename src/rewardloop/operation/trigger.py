"""Is a run due? One pure decision, in words.

In: the settings ``trigger``, what is pending, the champion's age, the last run, the latest drift report, the clock.
Out: whether to start, why or why not, and when time alone may change the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rewardloop.config import Settings, TriggerSettings

if TYPE_CHECKING:
    from rewardloop.feedback.store import Corpus, FeedbackStore
    from rewardloop.operation.claims import ClaimState
    from rewardloop.operation.drift_reports import DriftReport
    from rewardloop.operation.pending import Pending


@dataclass(frozen=True)
class Due:
    """The decision."""

    start: bool
    reason: str
    """Names the rule and its numbers, whether it starts or not."""
    again_at: datetime | None = None
    """When time alone may make it due; None: only something new can."""


@dataclass(frozen=True)
class _Labels:
    """Whether there is enough to learn from."""

    enough: bool
    words: str
    again_at: datetime | None = None


def due(
    settings: TriggerSettings,
    pending: "Pending",
    champion_at: datetime | None,
    last_run_at: datetime | None,
    drift: "DriftReport | None",
    now: datetime,
) -> Due:
    """Whether a run starts now.

    ``min_new_labels`` is needed, or one label where the champion is older than ``max_champion_days``; besides that
    ``min_hours_between_runs`` and ``only_on_drift`` must hold where they are set. The first version needs no drift.

    Args:
        settings: the policy.
        pending: what no finished run has read.
        champion_at: when the champion became it; None: there is none.
        last_run_at: when the newest run of another corpus or configuration started, whatever became of it: one that
            failed is not started anew, it goes on. None: there was none.
        drift: the latest report.
        now: the time, with its zone.
    """
    labels = _labels(settings, pending, champion_at, now)
    if not labels.enough:
        return Due(False, labels.words, labels.again_at)
    drifted, words = _drift(settings, champion_at, drift)
    if not drifted:
        return Due(False, f"{labels.words}, but {words}")
    early = _too_early(settings, last_run_at, now)
    if early is not None:
        return Due(False, f"{labels.words}, but {early.reason}", early.again_at)
    return Due(True, f"{labels.words}; {words}" if words else labels.words)


def due_now(
    settings: Settings,
    store: "FeedbackStore",
    claims: "Sequence[ClaimState]",
    corpus: "Corpus",
    config: str,
    now: datetime,
) -> Due:
    """``due`` with everything it asks for read from the store.

    Args:
        settings: ``trigger`` and the model's name.
        store: the feedback store.
        claims: as ``read_claims`` gives them.
        corpus: what a run that starts now would read.
        config: digest of the configuration.
        now: the time, with its zone.
    """
    from rewardloop.operation.drift_reports import latest_drift
    from rewardloop.operation.pending import pending
    from rewardloop.tracking.history import History

    records = History(store.storage, settings.model_name).records()
    version = records[-1].version if records else None
    # A model that was rolled back to is as old as its first promotion.
    since = [datetime.fromisoformat(record.at) for record in records if record.version == version]
    return due(
        settings.trigger,
        pending(store, claims, corpus, config=config),
        min(since, default=None),
        last_other_run(claims, corpus.digest, config),
        latest_drift(store.storage, version) if version and settings.trigger.only_on_drift else None,
        now,
    )


def standing(claims: "Sequence[ClaimState]", corpus: str, config: str, recheck_at: datetime) -> Due | None:
    """What the claims alone decide about this very corpus and configuration; None: nothing, ask ``due``.

    A run that was cut short or failed is the same run when it goes on, so no rule on starting one applies to it.

    Args:
        claims: as ``read_claims`` gives them.
        corpus: digest of the corpus that a run would read.
        config: digest of the configuration.
        recheck_at: when a run that is under way elsewhere is worth another look.
    """
    newest = newest_of(claims, corpus, config)
    if newest is None:
        return None
    since = f"{newest.at:%Y-%m-%d %H:%M} UTC"
    if newest.state == "running":
        return Due(False, f"run {newest.run_id} of this corpus is under way since {since}", recheck_at)
    if newest.state == "finished":
        return None
    if newest.is_submitted:
        words = f"run {newest.run_id} of this corpus was submitted to Kubeflow Pipelines on {since}"
        return Due(False, words, recheck_at)
    if newest.state in ("silent", "ended"):
        return Due(True, f"run {newest.run_id} of this corpus, begun {since}, was not finished and goes on")
    return None


def newest_of(claims: "Sequence[ClaimState]", corpus: str, config: str) -> "ClaimState | None":
    """The latest claim of this corpus under this configuration, repetitions included."""
    own = [claim for claim in claims if (claim.corpus, claim.config) == (corpus, config)]
    return max(own, key=lambda claim: claim.number, default=None)


def last_other_run(claims: "Sequence[ClaimState]", corpus: str, config: str) -> datetime | None:
    """When the newest run of another corpus or configuration was begun."""
    others = (claim.started_at for claim in claims if (claim.corpus, claim.config) != (corpus, config))
    return max(others, default=None)


def _labels(settings: TriggerSettings, pending: "Pending", champion_at: datetime | None, now: datetime) -> _Labels:
    if pending.labels == 0:
        return _Labels(False, f"0 of {settings.min_new_labels:,} new labels")
    if pending.labels >= settings.min_new_labels:
        return _Labels(True, f"{_count(pending.labels)} (trigger.min_new_labels: {settings.min_new_labels:,})")
    found = f"{pending.labels:,} of {settings.min_new_labels:,} new labels"
    limit = settings.max_champion_days
    if limit is None or champion_at is None:
        return _Labels(False, found)
    age = (now - champion_at) / timedelta(days=1)
    words = f"the champion is {age:.1f} days old (trigger.max_champion_days: {limit:g})"
    if age >= limit:
        return _Labels(True, f"{_count(pending.labels)}, and {words}")
    return _Labels(False, f"{found}, and {words}", champion_at + timedelta(days=limit))


def _drift(settings: TriggerSettings, champion_at: datetime | None, report: "DriftReport | None") -> tuple[bool, str]:
    """Whether drift allows a run, and in words why (empty: it was not asked)."""
    if not settings.only_on_drift:
        return True, ""
    if champion_at is None:
        return True, "there is no champion whose drift could be awaited"
    if report is None:
        return False, "no drift report yet (trigger.only_on_drift); make one: rewardloop drift"
    when = f"the latest drift report, of {report.at:%Y-%m-%d %H:%M} UTC,"
    if report.at < champion_at:
        return False, f"{when} is older than the champion (trigger.only_on_drift)"
    if not report.drifted:
        return False, f"{when} found none (trigger.only_on_drift)"
    return True, f"drift: {report.reasons[0] if report.reasons else when}"


def _too_early(settings: TriggerSettings, last_run_at: datetime | None, now: datetime) -> Due | None:
    hours = settings.min_hours_between_runs
    if last_run_at is None or not hours:
        return None
    rule = timedelta(hours=hours)
    earliest = last_run_at + rule
    # A run far in the future was noted by a clock that was wrong: waiting for it could stop the loop for years.
    if now >= earliest or last_run_at - now > rule:
        return None
    ago = max(now - last_run_at, timedelta()) / timedelta(hours=1)
    words = f"the last run started {ago:.1f} hours ago (trigger.min_hours_between_runs: {hours:g})"
    return Due(False, words, earliest)


def _count(labels: int) -> str:
    return "1 new label" if labels == 1 else f"{labels:,} new labels"
