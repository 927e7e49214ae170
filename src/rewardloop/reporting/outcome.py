"""How a run ended, in words: blessed, not blessed, or failed at a step, why, and what to do next.

The verdict is read from the evidence, not from ``RunRecord.status``: while the report is written the run is not over.
"""

from dataclasses import dataclass
from typing import Literal

from rewardloop.evidence import Blessing, RegistrationEvidence, StepRecord
from rewardloop.reporting.run_evidence import PIPELINE, RunEvidence

Kind = Literal["blessed", "not blessed", "failed"]

_MEND = "Correct what the message names, then `rewardloop run` again: steps that finished are taken from the cache."
_BATCH = (
    "A refused batch stays out of later runs by itself; to take it in all the same, have someone answer for it with "
    "`rewardloop accept BATCH`. Then `rewardloop run`."
)
_RESUME = "`rewardloop run` again goes on from the last checkpoint."
_AGAIN = "`rewardloop run` again takes the finished steps from the cache."


@dataclass(frozen=True)
class Outcome:
    """``headline`` is one sentence, ``reasons`` say why, ``advice`` what to do; ``step`` is the one that failed."""

    kind: Kind
    headline: str
    reasons: list[str]
    advice: str
    exit_code: int
    step: StepRecord | None = None


def outcome_of(evidence: RunEvidence) -> Outcome:
    """The verdict on a run that is over but for its report."""
    blessing = evidence.blessing
    refused = blessing is not None and not blessing.blessed
    failed = next((step for step in evidence.work_steps if step.status in {"failed", "running"}), None)
    if refused and (failed is None or failed.exit_code == 3):
        assert blessing is not None
        return _not_blessed(blessing)
    if failed:
        return _failed(evidence, failed)
    if blessing and evidence.registration:
        return _blessed(blessing, evidence.registration)
    return _stopped(evidence)


def _blessed(blessing: Blessing, registration: RegistrationEvidence) -> Outcome:
    version = f"{registration.name} version {registration.version}"
    if registration.champion:
        headline = f"Blessed: registered as {version}, which is now the champion."
        advice = "`rewardloop score --text TEXT` asks it about an answer."
    else:
        headline = f"Blessed: registered as {version}, as a candidate; the champion has not changed."
        advice = f"Score answers with it: `rewardloop score --version {registration.version} --text TEXT`."
    reasons = blessing.reasons or [f"All {len(blessing.checks)} checks of the gate passed."]
    return Outcome("blessed", headline, reasons, advice, 0)


def _not_blessed(blessing: Blessing) -> Outcome:
    failed = [check for check in blessing.checks if not check.passed]
    of = f"{len(failed)} of {len(blessing.checks)} checks failed" if failed else "the gate refused the candidate"
    # The first version has nothing before it; otherwise the old champion goes on serving.
    stays = "" if blessing.champion.startswith("no champion") else f" Version {blessing.champion} stays the champion."
    return Outcome(
        "not blessed",
        f"Not blessed, nothing was registered: {of}.{stays}",
        blessing.reasons or [check.reason for check in failed],
        "Read the failed checks below. More or cleaner labels, or other training settings, make a new candidate with "
        "`rewardloop run`; limits are in the section `gate` of the configuration.",
        3,
    )


def _failed(evidence: RunEvidence, step: StepRecord) -> Outcome:
    code = step.exit_code or 1
    if step.status == "running":
        reason = "The step was still at work when the run ended: it was interrupted, killed, or ran out of memory."
    else:
        reason = step.error or "The step left no message."
    blessed = " although the candidate was blessed" if evidence.blessing and evidence.blessing.blessed else ""
    return Outcome("failed", f"Failed at {step.step}{blessed}.", [reason], _advice(evidence, step, code), code, step)


def _advice(evidence: RunEvidence, step: StepRecord, code: int) -> str:
    if step.step == "validate_feedback" and code == 2:
        return _BATCH
    if code == 2:
        return _MEND
    resume = _RESUME if step.step == "train_reward_model" else _AGAIN
    if step.status == "running":
        return resume
    return f"The full log and this report are in {evidence.folder}. Once the cause is gone, {resume}"


def _stopped(evidence: RunEvidence) -> Outcome:
    done = [step.step for step in evidence.work_steps]
    advice = f"The full log is in {evidence.folder}. {_AGAIN}"
    if evidence.blessing:
        reason = "The blessing says yes, but register_models left no record: the graph skipped it."
        return Outcome("failed", "Failed: the candidate was blessed and never registered.", [reason], advice, 1)
    if not done:
        reason = "No step left a record: the pipeline did not start."
        return Outcome("failed", "Failed before the first step.", [reason], advice, 1)
    missing = next((name for name in PIPELINE if name not in done), "its end")
    reason = f"Every step that began has finished, the last one being {done[-1]}; {missing} never began."
    return Outcome("failed", f"Stopped before {missing}.", [reason], advice, 1)
