"""The feedback that a registered version was trained with, as far as this store has it."""

from collections.abc import Mapping

from rewardloop.errors import BadInputError
from rewardloop.feedback.store import FeedbackStore


def known_batches(tags: Mapping[str, str], store: str) -> frozenset[str]:
    """Digests of the batches in a version's corpus; none where it was registered from another store.

    Args:
        tags: of the version.
        store: URL of the feedback store.
    """
    try:
        corpus = FeedbackStore.open(store).read_corpus(tags["corpus_digest"])
    except BadInputError:
        return frozenset()
    return frozenset(batch.digest for batch in corpus.batches)
