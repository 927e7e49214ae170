"""Candidate and champion on the same held-out items; the threshold is certified."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_reward_model(
    reward_model: Input[Model],
    preferences: Input[Dataset],
    store: str,
    settings: str,
    champion: str,
    tracking_uri: str,
    code_version: str,
    evaluation: Output[Artifact],
) -> None:
    """Candidate and champion on the same held-out items; the threshold is certified."""
    from pathlib import Path

    from rewardloop.steps.evaluate_reward_model import evaluate_reward_model as step

    step(
        reward_model=Path(reward_model.path),
        preferences=Path(preferences.path),
        store=store,
        settings=settings,
        champion=champion,
        tracking_uri=tracking_uri,
        code_version=code_version,
        evaluation=Path(evaluation.path),
    )
