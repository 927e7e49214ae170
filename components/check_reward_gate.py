"""Whether the candidate passes its gate: alignment is not started for one that would be refused."""

from kfp import dsl
from kfp.dsl import Artifact, Input

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_reward_gate(
    evaluation: Input[Artifact],
    store: str,
    settings: str,
) -> bool:
    """Whether the candidate passes its gate: alignment is not started for one that would be refused."""
    from pathlib import Path

    from rewardloop.steps.check_reward_gate import check_reward_gate as step

    return step(
        evaluation=Path(evaluation.path),
        store=store,
        settings=settings,
    )
