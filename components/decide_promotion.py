"""All evidence against all limits: the verdict, with every reason."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def decide_promotion(
    evaluation: Input[Artifact],
    store: str,
    settings: str,
    corpus_digest: str,
    blessing: Output[Artifact],
    policy_evaluation: Optional[Input[Artifact]] = None,
) -> bool:
    """All evidence against all limits: the verdict, with every reason."""
    from pathlib import Path

    from rewardloop.steps.decide_promotion import decide_promotion as step
    from rewardloop.steps.step_run import place_of

    return step(
        evaluation=Path(evaluation.path),
        store=store,
        settings=settings,
        corpus_digest=corpus_digest,
        blessing=Path(blessing.path),
        policy_evaluation=place_of(policy_evaluation),
    )
