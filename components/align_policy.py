"""A policy is aligned to the reward model, at a price for leaving its reference."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def align_policy(
    start_policy: Input[Model],
    references: Input[Dataset],
    reward_model: Input[Model],
    evaluation: Input[Artifact],
    settings: str,
    code_version: str,
    policy: Output[Model],
) -> None:
    """A policy is aligned to the reward model, at a price for leaving its reference."""
    from pathlib import Path

    from rewardloop.steps.align_policy import align_policy as step

    step(
        start_policy=Path(start_policy.path),
        references=Path(references.path),
        reward_model=Path(reward_model.path),
        evaluation=Path(evaluation.path),
        settings=settings,
        code_version=code_version,
        policy=Path(policy.path),
    )
