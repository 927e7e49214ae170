"""The feedback that a registered version was trained with, as far as this store has it."""

from collections.abc import Mapping

from rewardloop.errors import BadInputError
from rewardloop.feedback.forgotten import read_forgotten
from rewardloop.feedback.store import FeedbackStore


def known_batches(tags: Mapping[str, str], store: str) -> frozenset[str]:
    """Digests of the batches in a version's corpus; none where it was registered from another store.

    Args:
        tags: of the version.
        store: URL of the feedback store.
    """
    opened = FeedbackStore.open(store)
    try:
        corpus = opened.read_corpus(tags["corpus_digest"])
    except BadInputError:
        return frozenset()
    # What is in the place of a batch in which something was forgotten is no news to the version.
    forgotten = read_forgotten(opened.storage)
    known = frozenset(batch.digest for batch in corpus.batches)
    return known | {digest for one in known if (digest := forgotten.current(one)) is not None}
