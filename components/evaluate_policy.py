"""A policy beside its reference on held-out prompts, by the reward model and a second judge."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_policy(
    policy: Input[Model],
    start_policy: Input[Model],
    references: Input[Dataset],
    reward_model: Input[Model],
    evaluation: Input[Artifact],
    preferences: Input[Dataset],
    store: str,
    settings: str,
    text_sets: str,
    code_version: str,
    policy_evaluation: Output[Artifact],
) -> None:
    """A policy beside its reference on held-out prompts, by the reward model and a second judge."""
    from pathlib import Path

    from rewardloop.steps.evaluate_policy import evaluate_policy as step

    step(
        policy=Path(policy.path),
        start_policy=Path(start_policy.path),
        references=Path(references.path),
        reward_model=Path(reward_model.path),
        evaluation=Path(evaluation.path),
        preferences=Path(preferences.path),
        store=store,
        settings=settings,
        text_sets=text_sets,
        code_version=code_version,
        policy_evaluation=Path(policy_evaluation.path),
    )
