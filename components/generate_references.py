"""The start policy's answers to all prompts of alignment and evaluation, made ahead of time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def generate_references(
    start_policy: Input[Model],
    preferences: Input[Dataset],
    store: str,
    settings: str,
    text_sets: str,
    code_version: str,
    references: Output[Dataset],
) -> None:
    """The start policy's answers to all prompts of alignment and evaluation, made ahead of time."""
    from pathlib import Path

    from rewardloop.steps.generate_references import generate_references as step

    step(
        start_policy=Path(start_policy.path),
        preferences=Path(preferences.path),
        store=store,
        settings=settings,
        text_sets=text_sets,
        code_version=code_version,
        references=Path(references.path),
    )
