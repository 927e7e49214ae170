"""Whether the candidate passes its gate: alignment is not started for one that would be refused.

In: the evaluation. Out: the answer for the graph; ``decide_promotion`` judges again, on all evidence, and writes it
down.
"""

import json
from pathlib import Path

from rewardloop.config import GateSettings
from rewardloop.evaluation.gate import decide
from rewardloop.evidence import EvaluationEvidence
from rewardloop.steps.step_run import step_run
from rewardloop.tracking.history import champion_version


def check_reward_gate(*, evaluation: Path, store: str, settings: str) -> bool:
    """True when the candidate passes every check.

    Args:
        evaluation: output of ``evaluate_reward_model``.
        store: URL of the feedback store, whose history says who is the champion now.
        settings: JSON with ``organization`` and the section ``gate``.
    """
    sections = json.loads(settings)
    gate = GateSettings.model_validate(sections["gate"])
    with step_run("check_reward_gate", inputs=[evaluation]) as run:
        measured = EvaluationEvidence.model_validate_json((evaluation / "evidence" / "evaluation.json").read_bytes())
        verdict = decide(
            measured,
            gate,
            candidate="",
            corpus_digest="",
            champion_now=champion_version(store, sections["organization"]),
        )
        run.produced = (
            f"passed, {len(verdict.checks)} of {len(verdict.checks)} checks: alignment starts"
            if verdict.blessed
            else f"not passed, alignment is not started: {verdict.reasons[0]}"
        )
    return verdict.blessed
