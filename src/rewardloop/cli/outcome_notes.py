"""What people are told when a run is over: what to do next, and a notification.

In: the evidence of a run, or why there is none. Out: lines for the terminal; a message (``operation.notifications``).
"""

import shutil
import sys

from rewardloop.config import Event, LoadedSettings, Settings
from rewardloop.reporting.outcome import Outcome, outcome_of
from rewardloop.reporting.run_evidence import RunEvidence

_REASONS = 3


def next_commands(loaded: LoadedSettings, *, champion: bool) -> str:
    """Commands that make sense now."""
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


def notify_outcome(settings: Settings, evidence: RunEvidence) -> None:
    """Tell whoever is configured how the run ended; never fails."""
    from rewardloop.operation.notifications import notify

    outcome = outcome_of(evidence)
    event = _event(evidence, outcome)
    lines = [outcome.headline, *(f"- {reason}" for reason in outcome.reasons[:_REASONS])]
    more = len(outcome.reasons) - _REASONS
    lines += [f"- and {more} more in the report"] if more > 0 else []
    lines += [f"Run {evidence.run.run_id}: {evidence.run.trigger_reason}", f"Report: {evidence.report}"]
    notify(settings.notifications, event, f"{settings.organization}: {_TITLES[event]}", "\n".join(lines))


def notify_not_run(settings: Settings, reason: str, error: Exception) -> None:
    """Tell whoever is configured that a run that is due could not be started, or not finished; never fails."""
    from rewardloop.operation.notifications import notify

    text = f"{reason}, but the run cannot be made: {error}\nIt is tried again after growing pauses."
    notify(settings.notifications, "failed", f"{settings.organization}: {_TITLES['failed']}", text)


_TITLES: dict[Event, str] = {
    "blessed": "a new reward model was blessed",
    "refused": "the candidate was refused",
    "failed": "the run failed",
    "approval": "a blessed candidate waits for approval",
    "drift": "drift",
}


def _event(evidence: RunEvidence, outcome: Outcome) -> Event:
    if outcome.kind == "blessed":
        registration = evidence.registration
        return "approval" if registration and registration.waiting else "blessed"
    return "refused" if outcome.kind == "not blessed" else "failed"
