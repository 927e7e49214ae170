"""The batches of the run's corpus, as one snapshot."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def load_corpus(
    store: str,
    corpus_digest: str,
    code_version: str,
    corpus: Output[Dataset],
) -> None:
    """The batches of the run's corpus, as one snapshot."""
    from pathlib import Path

    from rewardloop.steps.load_corpus import load_corpus as step

    step(
        store=store,
        corpus_digest=corpus_digest,
        code_version=code_version,
        corpus=Path(corpus.path),
    )
