"""Whether a run is due: every rule with numbers worked by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rewardloop.config import TriggerSettings
from rewardloop.operation.claim_files import ClaimState
from rewardloop.operation.drift_reports import DriftReport, LateLabels
from rewardloop.operation.pending import Pending
from rewardloop.operation.processes import this_owner
from rewardloop.operation.trigger import due, last_other_run, standing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CORPUS, CONFIG = "a" * 64, "b" * 64


def labels(count: int) -> Pending:
    return Pending(batches=(), labels=count, oldest_at=NOW if count else None)


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def drift_report(*, drifted: bool, at: datetime) -> DriftReport:
    return DriftReport(
        model="acme-reward",
        version="3",
        at=at,
        since=at,
        reference=900,
        decisions=800,
        unscored=0,
        needed=200,
        max_psi=0.2,
        level=0.01,
        drifted=drifted,
        reasons=["score: PSI 0.41 above 0.2"] if drifted else [],
        distributions=[],
        accepted=[],
        late=LateLabels(acceptability="none"),
    )


def claim(
    state: str, *, number: int = 0, corpus: str = CORPUS, days: float = 0.5, submitted: bool = False
) -> ClaimState:
    at = days_ago(days)
    return ClaimState.model_validate(
        {
            "stem": "stem",
            "corpus": corpus,
            "config": CONFIG,
            "number": number,
            "run_id": f"run-{number}",
            "reason": "labels",
            "again": None,
            "started_at": at,
            "attempt": 1,
            "owner": this_owner(),
            "at": at,
            "last_beat": at,
            "beats": 0,
            "submitted": submitted,
            "state": state,
        }
    )


@pytest.mark.parametrize(
    ("settings", "count", "champion", "last", "start", "reason"),
    [
        ({}, 1, None, None, True, "1 new label (trigger.min_new_labels: 1)"),
        ({}, 0, None, None, False, "0 of 1 new labels"),
        ({"min_new_labels": 500}, 37, 400, None, False, "37 of 500 new labels"),
        ({"min_new_labels": 500}, 500, 1, None, True, "500 new labels (trigger.min_new_labels: 500)"),
        ({"min_new_labels": 1_500}, 1_499, None, None, False, "1,499 of 1,500 new labels"),
        # A champion that is old enough needs one label, a younger one all of them; without one age says nothing.
        (
            {"min_new_labels": 500, "max_champion_days": 30}, 1, 30, None, True,
            "1 new label, and the champion is 30.0 days old (trigger.max_champion_days: 30)",
        ),
        (
            {"min_new_labels": 500, "max_champion_days": 30}, 1, 29.5, None, False,
            "1 of 500 new labels, and the champion is 29.5 days old (trigger.max_champion_days: 30)",
        ),
        ({"min_new_labels": 500, "max_champion_days": 30}, 0, 300, None, False, "0 of 500 new labels"),
        ({"min_new_labels": 500, "max_champion_days": 30}, 499, None, None, False, "499 of 500 new labels"),
        # Hours between runs hold whatever the labels and the champion say.
        (
            {"min_hours_between_runs": 12}, 9, 300, 0.25, False,
            "9 new labels (trigger.min_new_labels: 1), but the last run started 6.0 hours ago "
            "(trigger.min_hours_between_runs: 12)",
        ),
        ({"min_hours_between_runs": 12}, 9, 300, 0.5, True, "9 new labels (trigger.min_new_labels: 1)"),
        ({"min_hours_between_runs": 12}, 9, None, None, True, "9 new labels (trigger.min_new_labels: 1)"),
        # Another machine's clock is a little ahead: too early all the same. One that is days ahead is wrong.
        (
            {"min_hours_between_runs": 12}, 9, None, -0.01, False,
            "9 new labels (trigger.min_new_labels: 1), but the last run started 0.0 hours ago "
            "(trigger.min_hours_between_runs: 12)",
        ),
        ({"min_hours_between_runs": 12}, 9, None, -3, True, "9 new labels (trigger.min_new_labels: 1)"),
    ],
)  # fmt: skip
def test_labels_age_and_hours(
    settings: dict[str, Any], count: int, champion: float | None, last: float | None, start: bool, reason: str
) -> None:
    found = due(
        TriggerSettings(**settings),
        labels(count),
        None if champion is None else days_ago(champion),
        None if last is None else days_ago(last),
        None,
        NOW,
    )
    assert (found.start, found.reason) == (start, reason)


@pytest.mark.parametrize(
    ("champion", "report", "start", "reason"),
    [
        (10, None, False, "but no drift report yet (trigger.only_on_drift); make one: rewardloop drift"),
        (10, (False, 1), False, "the latest drift report, of 2026-02-28 12:00 UTC, found none (trigger.only_on_drift)"),
        (10, (True, 1), True, "; drift: score: PSI 0.41 above 0.2"),
        (10, (True, 11), False, "but the latest drift report, of 2026-02-18 12:00 UTC, is older than the champion"),
        (None, None, True, "; there is no champion whose drift could be awaited"),
    ],
)  # fmt: skip
def test_only_on_drift(champion: float | None, report: tuple[bool, float] | None, start: bool, reason: str) -> None:
    found = due(
        TriggerSettings(only_on_drift=True),
        labels(8),
        None if champion is None else days_ago(champion),
        None,
        drift_report(drifted=report[0], at=days_ago(report[1])) if report else None,
        NOW,
    )
    assert found.start is start
    assert reason in found.reason


def test_drift_alone_starts_nothing() -> None:
    report = drift_report(drifted=True, at=days_ago(1))
    found = due(TriggerSettings(only_on_drift=True), labels(0), days_ago(9), None, report, NOW)
    assert (found.start, found.reason) == (False, "0 of 1 new labels")


def test_when_time_alone_makes_it_due() -> None:
    hours = due(TriggerSettings(min_hours_between_runs=12), labels(9), None, days_ago(0.25), None, NOW)
    assert hours.again_at == NOW + timedelta(hours=6)
    policy = TriggerSettings(min_new_labels=9, max_champion_days=30)
    assert due(policy, labels(1), days_ago(29.5), None, None, NOW).again_at == NOW + timedelta(hours=12)
    assert due(policy, labels(0), days_ago(29.5), None, None, NOW).again_at is None
    assert due(TriggerSettings(min_new_labels=9), labels(1), days_ago(29.5), None, None, NOW).again_at is None
    # At that moment it is.
    assert due(policy, labels(1), days_ago(29.5), None, None, NOW + timedelta(hours=12)).start


def test_what_the_claims_say() -> None:
    soon = NOW + timedelta(seconds=30)
    assert standing([], CORPUS, CONFIG, soon) is None
    assert standing([claim("running", corpus="c" * 64)], CORPUS, CONFIG, soon) is None
    assert standing([claim("finished")], CORPUS, CONFIG, soon) is None
    running = standing([claim("finished"), claim("running", number=1)], CORPUS, CONFIG, soon)
    assert running is not None
    assert (running.start, running.again_at) == (False, soon)
    assert running.reason == "run run-1 of this corpus is under way since 2026-03-01 00:00 UTC"
    for state in ("silent", "ended"):
        cut_short = standing([claim(state)], CORPUS, CONFIG, soon)
        assert cut_short is not None
        assert cut_short.start
        assert "run run-0 of this corpus, begun 2026-03-01 00:00 UTC, was not finished and goes on" in cut_short.reason


def test_a_run_that_lives_elsewhere_is_left_alone() -> None:
    there = claim("ended", submitted=True)
    found = standing([there], CORPUS, CONFIG, NOW)
    assert found is not None
    assert not found.start
    assert "submitted" in found.reason


def test_hours_count_from_other_runs_only() -> None:
    claims = [
        claim("ended", days=0.1),
        claim("finished", corpus="c" * 64, days=2),
        claim("ended", corpus="d" * 64, days=1),
    ]
    assert last_other_run(claims, CORPUS, CONFIG) == days_ago(1)
    assert last_other_run(claims[:1], CORPUS, CONFIG) is None
