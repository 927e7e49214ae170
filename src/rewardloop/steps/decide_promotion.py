"""All evidence against all limits: the verdict, with every reason.

In: the evaluation. Out: ``blessing.json``, which ``register_models`` reads again, and the verdict for the graph.
"""

import json
from pathlib import Path

from rewardloop.config import GateSettings
from rewardloop.evaluation.gate import decide
from rewardloop.evidence import EvaluationEvidence
from rewardloop.steps.step_run import step_run


def decide_promotion(*, evaluation: Path, settings: str, corpus_digest: str, blessing: Path) -> bool:
    """Judge one candidate; True when it is blessed.

    Args:
        evaluation: output of ``evaluate_reward_model``.
        settings: JSON with the section ``gate``.
        corpus_digest: what the candidate was trained on.
        blessing: output folder.
    """
    gate = GateSettings.model_validate(json.loads(settings)["gate"])
    with step_run("decide_promotion", inputs=[evaluation], output=blessing) as run:
        measured = EvaluationEvidence.model_validate_json((evaluation / "evidence" / "evaluation.json").read_bytes())
        candidate = json.loads((evaluation / "candidate.json").read_text(encoding="utf-8"))["digest"]
        verdict = decide(measured, gate, candidate=candidate, corpus_digest=corpus_digest)
        (blessing / "blessing.json").write_text(verdict.model_dump_json(indent=1), encoding="utf-8")
        run.write("blessing", verdict)
        run.produced = f"{'blessed' if verdict.blessed else 'not blessed'}: {verdict.reasons[0]}"
    return verdict.blessed
