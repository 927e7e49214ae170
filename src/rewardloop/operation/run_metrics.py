"""The state of the loop as figures for Prometheus.

In: a ``StatusReport``, which is what ``rewardloop status`` shows, and the claims behind it. Out: Prometheus' text
format. Claims are in the feedback store and tell of every machine's runs; run folders are those of this machine. What
is unknown is left out: an absent figure can be alerted on, a zero cannot.
"""

from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from rewardloop.operation.claim_files import ClaimState
from rewardloop.operation.status_report import ChampionLine, StatusReport

_RUN_STATES = ("running", "blessed", "not blessed", "failed")
_CLAIM_STATES = ("running", "silent", "ended", "finished")


def run_metrics(report: StatusReport, claims: list[ClaimState]) -> bytes:
    """All figures, each with the label ``organization``.

    Args:
        report: the state of the loop.
        claims: those of the report, with their outcomes' times.
    """
    registry = CollectorRegistry()
    figures = _Figures(registry, report.organization)
    figures.one("pending_labels", "Labels that no finished run has read", report.pending.labels)
    figures.one("pending_batches", "Batches that no finished run has read", report.pending.batches)
    figures.one("pending_labels_needed", "New labels at which a run starts", report.pending.needed)
    figures.time("oldest_pending_timestamp_seconds", "When the oldest unread batch came", report.pending.oldest_at)
    _runs(figures, report, claims)
    for champion in report.champions:
        _champion(figures, champion, report.at)
    if report.drift:
        figures.one("drifted", "1: served answers have drifted, by the newest report", report.drift.drifted)
        figures.time("drift_report_timestamp_seconds", "When drift was looked for last", report.drift.at)
    figures.time("next_start_timestamp_seconds", "When the recurring run starts next", report.next_start)
    figures.one("status_problems", "Things that could not be read while looking", len(report.problems))
    figures.time("status_timestamp_seconds", "When these figures were taken", report.at)
    return generate_latest(registry)


class _Figures:
    """Gauges of one registry."""

    def __init__(self, registry: CollectorRegistry, organization: str) -> None:
        self._registry, self._organization = registry, organization
        self._gauges: dict[str, Gauge] = {}

    def one(self, name: str, words: str, value: float, **labels: str) -> None:
        """Set one gauge."""
        names = ["organization", *labels]
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"rewardloop_{name}", words, names, registry=self._registry)
        self._gauges[name].labels(self._organization, *labels.values()).set(value)

    def time(self, name: str, words: str, moment: datetime | None, **labels: str) -> None:
        """Set one to seconds since 1970; without a moment there is no such figure."""
        if moment is not None:
            self.one(name, words, moment.timestamp(), **labels)


def _runs(figures: _Figures, report: StatusReport, claims: list[ClaimState]) -> None:
    outcomes = [claim.outcome for claim in claims if claim.outcome]
    last = max((one.finished_at for one in outcomes), default=None)
    figures.time("last_success_timestamp_seconds", "End of the newest run that came to a verdict", last)
    for outcome in ("blessed", "not blessed"):
        ends = [one.finished_at for one in outcomes if one.status == outcome]
        words = "Corpora that were trained, by outcome; on every machine, since the store began"
        figures.one("trainings", words, len(ends), outcome=outcome)
        words = "End of the newest run with this outcome"
        figures.time("last_outcome_timestamp_seconds", words, max(ends, default=None), outcome=outcome)
    for state in _CLAIM_STATES:
        words = "Claims by state: silent and ended ones wait for somebody to go on with them"
        figures.one("claims", words, sum(claim.state == state for claim in claims), state=state)
    for state in _RUN_STATES:
        words = "Newest runs of this machine that status lists, by outcome"
        figures.one("recent_runs", words, sum(run.status == state for run in report.runs), outcome=state)


def _champion(figures: _Figures, champion: ChampionLine, now: datetime) -> None:
    since = datetime.fromisoformat(champion.since)
    labels = {"model": champion.model, "version": champion.version}
    figures.time("champion_since_timestamp_seconds", "When this version became the champion", since, **labels)
    figures.one("champion_age_seconds", "Age of the champion", (now - since).total_seconds(), **labels)
