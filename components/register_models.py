"""A blessed candidate and its threshold become a registered version, and so does a blessed policy."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register_models(
    reward_model: Input[Model],
    evaluation: Input[Artifact],
    blessing: Input[Artifact],
    store: str,
    settings: str,
    tracking_uri: str,
    corpus_digest: str,
    config_digest: str,
    registration: Output[Artifact],
    policy: Optional[Input[Model]] = None,
) -> None:
    """A blessed candidate and its threshold become a registered version, and so does a blessed policy."""
    from pathlib import Path

    from rewardloop.steps.register_models import register_models as step
    from rewardloop.steps.step_run import place_of

    step(
        reward_model=Path(reward_model.path),
        evaluation=Path(evaluation.path),
        blessing=Path(blessing.path),
        store=store,
        settings=settings,
        tracking_uri=tracking_uri,
        corpus_digest=corpus_digest,
        config_digest=config_digest,
        registration=Path(registration.path),
        policy=place_of(policy),
    )
