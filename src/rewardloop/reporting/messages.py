"""The messages that people get when a run is over, or cannot begin.

In: the evidence of a run, or why there is none. Out: a notification (``reporting.notifications``).
"""

from rewardloop.config import Event, NotificationSettings
from rewardloop.reporting.notifications import notify
from rewardloop.reporting.outcome import Outcome, outcome_of
from rewardloop.reporting.run_evidence import RunEvidence

_REASONS = 3
_TITLES: dict[Event, str] = {
    "blessed": "a new reward model was blessed",
    "refused": "the candidate was refused",
    "failed": "the run failed",
    "approval": "a blessed candidate waits for approval",
    "drift": "drift",
}


def notify_outcome(settings: NotificationSettings, evidence: RunEvidence) -> None:
    """Tell whoever is configured how the run ended; never fails."""
    outcome = outcome_of(evidence)
    event = _event(evidence, outcome)
    lines = [outcome.headline, *(f"- {reason}" for reason in outcome.reasons[:_REASONS])]
    more = len(outcome.reasons) - _REASONS
    lines += [f"- and {more} more in the report"] if more > 0 else []
    lines += [f"Run {evidence.run.run_id}: {evidence.run.trigger_reason}", f"Report: {evidence.report}"]
    notify(settings, event, f"{evidence.run.organization}: {_TITLES[event]}", "\n".join(lines))


def notify_not_run(settings: NotificationSettings, organization: str, reason: str, error: Exception) -> None:
    """Tell whoever is configured that a run that is due could not be started, or not finished; never fails."""
    text = f"{reason}, but the run cannot be made: {error}\nIt is tried again after growing pauses."
    notify(settings, "failed", f"{organization}: {_TITLES['failed']}", text)


def _event(evidence: RunEvidence, outcome: Outcome) -> Event:
    if outcome.kind == "blessed":
        registration = evidence.registration
        return "approval" if registration and registration.waiting else "blessed"
    return "refused" if outcome.kind == "not blessed" else "failed"
