"""Many labelers become pairs with soft labels, in splits that never share a document."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_preferences(
    validated: Input[Dataset],
    store: str,
    settings: str,
    code_version: str,
    preferences: Output[Dataset],
) -> None:
    """Many labelers become pairs with soft labels, in splits that never share a document."""
    from pathlib import Path

    from rewardloop.steps.build_preferences import build_preferences as step

    step(
        validated=Path(validated.path),
        store=store,
        settings=settings,
        code_version=code_version,
        preferences=Path(preferences.path),
    )
