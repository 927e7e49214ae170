"""Whether the candidate passes its gate: alignment is not started for one that would be refused.

In: the evaluation. Out: the answer for the graph; ``decide_promotion`` judges again, on all evidence, and writes it
down.
"""

import json
from pathlib import Path

from rewardloop.config import GateSettings
from rewardloop.evaluation.gate import decide
from rewardloop.evidence import EvaluationEvidence
from rewardloop.steps.step_run import run_folder, step_run
from rewardloop.tracking.own_promotion import champion_now


def check_reward_gate(*, evaluation: Path, store: str, settings: str) -> bool:
    """True when the candidate passes every check.

    Args:
        evaluation: output of ``evaluate_reward_model``.
        store: URL of the feedback store, whose history says who is the champion now.
        settings: JSON with ``organization`` and the section ``gate``.
    """
    sections = json.loads(settings)
    gate = GateSettings.model_validate(sections["gate"])
    folder = run_folder()
    with step_run("check_reward_gate", inputs=[evaluation]) as run:
        measured = EvaluationEvidence.model_validate_json((evaluation / "evidence" / "evaluation.json").read_bytes())
        verdict = decide(
            measured,
            gate,
            candidate="",
            corpus_digest="",
            champion_now=champion_now(
                store,
                sections["organization"],
                compared_with=measured.champion.version if measured.champion else None,
                run_id=folder.name if folder else None,
            ),
        )
        run.produced = (
            f"passed, {len(verdict.checks)} of {len(verdict.checks)} checks: alignment starts"
            if verdict.blessed
            else f"not passed, alignment is not started: {verdict.reasons[0]}"
        )
    return verdict.blessed
