"""The policy that alignment starts from: the base, or the base after supervised fine-tuning."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_sft(
    preferences: Input[Dataset],
    store: str,
    settings: str,
    text_sets: str,
    code_version: str,
    start_policy: Output[Model],
) -> None:
    """The policy that alignment starts from: the base, or the base after supervised fine-tuning."""
    from pathlib import Path

    from rewardloop.steps.train_sft import train_sft as step

    step(
        preferences=Path(preferences.path),
        store=store,
        settings=settings,
        text_sets=text_sets,
        code_version=code_version,
        start_policy=Path(start_policy.path),
    )
