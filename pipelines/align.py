"""The second half of ``retrain-and-align``: a start policy, its references, PPO, and what the policy is worth."""

from typing import Any, NamedTuple

from components.align_policy import align_policy
from components.evaluate_policy import evaluate_policy
from components.generate_references import generate_references
from components.train_sft import train_sft
from pipelines.reward_model import RewardModelTasks


class PolicyTasks(NamedTuple):
    """Artifacts that later tasks take."""

    policy: Any
    policy_evaluation: Any


def add_alignment(
    measured: RewardModelTasks,
    *,
    store: str,
    code_version: str,
    text_sets: str,
    sft_settings: str,
    alignment_settings: str,
    policy_settings: str,
) -> PolicyTasks:
    """Add the tasks to the pipeline that is being defined."""
    started = train_sft(
        preferences=measured.preferences,
        store=store,
        settings=sft_settings,
        text_sets=text_sets,
        code_version=code_version,
    )
    answered = generate_references(
        start_policy=started.outputs["start_policy"],
        preferences=measured.preferences,
        store=store,
        settings=policy_settings,
        text_sets=text_sets,
        code_version=code_version,
    )
    aligned = align_policy(
        start_policy=started.outputs["start_policy"],
        references=answered.outputs["references"],
        reward_model=measured.reward_model,
        evaluation=measured.evaluation,
        settings=alignment_settings,
        code_version=code_version,
    )
    compared = evaluate_policy(
        policy=aligned.outputs["policy"],
        start_policy=started.outputs["start_policy"],
        references=answered.outputs["references"],
        reward_model=measured.reward_model,
        evaluation=measured.evaluation,
        preferences=measured.preferences,
        store=store,
        settings=policy_settings,
        text_sets=text_sets,
        code_version=code_version,
    )
    return PolicyTasks(aligned.outputs["policy"], compared.outputs["policy_evaluation"])
