"""How a run ended, in words: blessed, not blessed, or failed at a step, why, and what to do next.

A reward model can be blessed while the policy aligned to it is refused: the run is then "blessed" with exit code 3.

The verdict is read from the evidence, not from ``RunRecord.status``: while the report is written the run is not over.
"""

from dataclasses import dataclass
from typing import Literal

from rewardloop.evidence import Blessing, Check, PolicyVerdict, RegistrationEvidence, StepRecord
from rewardloop.reporting.run_evidence import PIPELINES, RunEvidence

Kind = Literal["blessed", "not blessed", "failed"]

_MEND = "Correct what the message names, then `rewardloop run` again: steps that finished are taken from the cache."
_BATCH = (
    "A refused batch stays out of later runs by itself; to take it in all the same, have someone answer for it with "
    "`rewardloop accept BATCH`. Then `rewardloop run`."
)
_RESUME = "`rewardloop run` again goes on from the last checkpoint."
_AGAIN = "`rewardloop run` again takes the finished steps from the cache."
_RESUMABLE = {"train_reward_model", "train_sft", "generate_references", "align_policy"}
_OVER_OPTIMIZED = (
    "The policy learnt what the reward model gets wrong: a larger `align.kl.beta` or a smaller `align.kl.budget` keeps "
    "it nearer to its reference, and labels on its answers mend the reward model."
)
_POLICY_LIMITS = "Read the policy's failed checks below; its limits are in `gate.policy`, its training in `align`."


@dataclass(frozen=True)
class Outcome:
    """``headline`` says how, ``reasons`` say why, ``advice`` what to do; ``step`` is the one that failed."""

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
        return _not_blessed(evidence, blessing)
    if failed:
        return _failed(evidence, failed)
    if blessing and evidence.registration:
        return _registered(evidence, blessing, evidence.registration)
    return _stopped(evidence)


def _registered(evidence: RunEvidence, blessing: Blessing, registration: RegistrationEvidence) -> Outcome:
    verdict = blessing.policy
    if verdict and verdict.blessed and registration.policy is None:
        reason = "The blessing says yes to the policy, but register_models registered the reward model alone."
        headline = f"Failed: {_version(registration)} was registered, its blessed policy never."
        return Outcome("failed", headline, [reason], f"The full log is in {evidence.folder}. {_AGAIN}", 1)
    if verdict and not verdict.blessed:
        return _policy_refused(evidence, verdict, registration)
    return _blessed(blessing, registration)


def _blessed(blessing: Blessing, registration: RegistrationEvidence) -> Outcome:
    policy, verdict = registration.policy, blessing.policy
    headline = f"Blessed: {_place(registration)}{_stays(registration)}."
    if policy:
        waits = ", waiting for approval too" if policy.waiting else ""
        headline += f" The policy aligned to it is {policy.name} version {policy.version}{waits}."
    reasons = blessing.reasons or [f"All {len(blessing.checks)} checks of the gate passed."]
    if verdict:
        passed = verdict.reasons or [f"all {len(verdict.checks)} checks of its gate passed."]
        reasons = [*reasons, *(f"The policy: {reason}" for reason in passed)]
    return Outcome("blessed", headline, reasons, _ask(registration), 0)


def _policy_refused(evidence: RunEvidence, verdict: PolicyVerdict, registration: RegistrationEvidence) -> Outcome:
    headline = f"Blessed: {_place(registration)}. The policy was not blessed, nor registered: {_share(verdict.checks)}."
    measured = evidence.policy_evaluation
    cause = _OVER_OPTIMIZED if measured and measured.over_optimized else _POLICY_LIMITS
    return Outcome("blessed", headline, _why(verdict), f"{cause} {_ask(registration)}", 3)


def _version(registration: RegistrationEvidence) -> str:
    return f"{registration.name} version {registration.version}"


def _place(registration: RegistrationEvidence) -> str:
    if registration.waiting:
        where = ", waiting for approval"
    else:
        where = ", which is now the champion" if registration.champion else ", as a candidate"
    return f"registered as {_version(registration)}{where}"


def _stays(registration: RegistrationEvidence) -> str:
    return "" if registration.champion else "; the champion has not changed"


def _ask(registration: RegistrationEvidence) -> str:
    if registration.champion:
        return "`rewardloop score --text TEXT` asks the reward model about an answer."
    if registration.waiting:
        policy = registration.policy
        then = f", then `rewardloop approve {policy.version} --policy --reason WHY` its policy" if policy else ""
        return (
            f"`rewardloop approve {registration.version} --reason WHY` makes it the champion{then}; `rewardloop score "
            f"--version {registration.version} --text TEXT` asks it about an answer before."
        )
    return f"Score answers with it: `rewardloop score --version {registration.version} --text TEXT`."


def _share(checks: list[Check]) -> str:
    failed = sum(not check.passed for check in checks)
    return f"{failed} of {len(checks)} checks failed" if failed else "the gate refused the candidate"


def _why(verdict: Blessing | PolicyVerdict) -> list[str]:
    return verdict.reasons or [check.reason for check in verdict.checks if not check.passed]


def _not_blessed(evidence: RunEvidence, blessing: Blessing) -> Outcome:
    # The first version has nothing before it; otherwise the old champion goes on serving.
    stays = "" if blessing.champion.startswith("no champion") else f" Version {blessing.champion} stays the champion."
    skipped = " Alignment was not started: the reward gate failed." if evidence.alignment_not_started else ""
    return Outcome(
        "not blessed",
        f"Not blessed, nothing was registered: {_share(blessing.checks)}.{stays}{skipped}",
        _why(blessing),
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
    resume = _RESUME if step.step in _RESUMABLE else _AGAIN
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
    order = PIPELINES[evidence.run.pipeline]
    # Counted from the last one: a step taken from the cache may have left no record of its own yet.
    after = max((order.index(name) for name in done if name in order), default=-1) + 1
    missing = order[after] if after < len(order) else "its end"
    reason = f"Every step that began has finished, the last one being {done[-1]}; {missing} never began."
    return Outcome("failed", f"Stopped before {missing}.", [reason], advice, 1)
