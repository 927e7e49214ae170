"""All evidence against all limits: the verdict, with every reason.

In: the evaluation, and the policy's where one was made. Out: ``blessing.json``, which ``register_models`` reads again,
and the verdict for the graph. A reward model can be blessed without its policy, a policy not without its reward model.
"""

import json
import shutil
from pathlib import Path

from rewardloop.config import AlignSettings, GateSettings
from rewardloop.evaluation.gate import decide
from rewardloop.evaluation.policy_gate import decide_policy
from rewardloop.evidence import EvaluationEvidence, PolicyEvaluationEvidence, PolicyVerdict
from rewardloop.steps.step_run import run_folder, step_run
from rewardloop.tracking.own_promotion import champion_now


def decide_promotion(
    *,
    evaluation: Path,
    store: str,
    settings: str,
    corpus_digest: str,
    blessing: Path,
    policy_evaluation: Path | None = None,
) -> bool:
    """Judge one candidate; True when the reward model is blessed.

    Args:
        evaluation: output of ``evaluate_reward_model``.
        store: URL of the feedback store, whose history says who is the champion now.
        settings: JSON with ``organization``, the section ``gate`` and, where there is a policy, ``align``.
        corpus_digest: what the candidate was trained on.
        blessing: output folder.
        policy_evaluation: output of ``evaluate_policy``.
    """
    sections = json.loads(settings)
    gate = GateSettings.model_validate(sections["gate"])
    inputs = [evaluation, *([policy_evaluation] if policy_evaluation else [])]
    folder = run_folder()
    with step_run("decide_promotion", inputs=inputs, output=blessing) as run:
        measured = EvaluationEvidence.model_validate_json((evaluation / "evidence" / "evaluation.json").read_bytes())
        candidate = json.loads((evaluation / "candidate.json").read_text(encoding="utf-8"))["digest"]
        verdict = decide(
            measured,
            gate,
            candidate=candidate,
            corpus_digest=corpus_digest,
            champion_now=champion_now(
                store,
                sections["organization"],
                compared_with=measured.champion.version if measured.champion else None,
                run_id=folder.name if folder else None,
            ),
        )
        if policy_evaluation:
            align = AlignSettings.model_validate(sections["align"])
            verdict.policy = _judge_policy(policy_evaluation, gate, align)
            if not verdict.blessed:
                verdict.policy.blessed = False
                verdict.policy.reasons.insert(0, "The reward model that it was aligned to was not blessed.")
            _keep_answers(policy_evaluation)
        (blessing / "blessing.json").write_text(verdict.model_dump_json(indent=1), encoding="utf-8")
        run.write("blessing", verdict)
        run.produced = f"{'blessed' if verdict.blessed else 'not blessed'}: {verdict.reasons[0]}"
        if verdict.policy:
            word = "blessed" if verdict.policy.blessed else "not blessed"
            run.produced += f" Policy {word}: {verdict.policy.reasons[0]}"
    return verdict.blessed


def _judge_policy(folder: Path, gate: GateSettings, align: AlignSettings) -> PolicyVerdict:
    measured = PolicyEvaluationEvidence.model_validate_json(
        (folder / "evidence" / "policy_evaluation.json").read_bytes()
    )
    candidate = json.loads((folder / "policy.json").read_text(encoding="utf-8"))["digest"]
    return decide_policy(measured, gate.policy, kl_budget=align.kl.budget, candidate=candidate)


def _keep_answers(folder: Path) -> None:
    """Both answers to the held-out prompts go into the run's folder, where people's comparisons are made from.

    This step is never taken from the cache, so they are there also where the evaluation was.
    """
    run = run_folder()
    if run is None:
        return
    shutil.copyfile(folder / "answers.parquet", run / "policy-answers.parquet")
    digest = json.loads((folder / "policy.json").read_text(encoding="utf-8"))["digest"]
    about = {"policy": digest, "run_id": run.name}
    (run / "policy-answers.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
