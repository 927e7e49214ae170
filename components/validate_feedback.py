"""Great Expectations judge every batch; bad rows go to quarantine, a bad batch stops the run."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_feedback(
    corpus: Input[Dataset],
    store: str,
    settings: str,
    code_version: str,
    validated: Output[Dataset],
    data_docs: Output[Artifact],
) -> None:
    """Great Expectations judge every batch; bad rows go to quarantine, a bad batch stops the run."""
    from pathlib import Path

    from rewardloop.steps.validate_feedback import validate_feedback as step

    step(
        corpus=Path(corpus.path),
        store=store,
        settings=settings,
        code_version=code_version,
        validated=Path(validated.path),
        data_docs=Path(data_docs.path),
    )
