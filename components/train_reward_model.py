"""A base model, or the champion, learns the preferences of the training split."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_reward_model(
    preferences: Input[Dataset],
    store: str,
    settings: str,
    champion: str,
    tracking_uri: str,
    code_version: str,
    reward_model: Output[Model],
) -> None:
    """A base model, or the champion, learns the preferences of the training split."""
    from pathlib import Path

    from rewardloop.steps.train_reward_model import train_reward_model as step

    step(
        preferences=Path(preferences.path),
        store=store,
        settings=settings,
        champion=champion,
        tracking_uri=tracking_uri,
        code_version=code_version,
        reward_model=Path(reward_model.path),
    )
