"""Runs that read what is to be forgotten.

In: claims and the corpora they name. Out: those that may be at work on one of the batches.
"""

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claim_files import ClaimState, read_claims
from rewardloop.operation.processes import is_gone, this_owner


def runs_in_the_way(
    settings: Settings, store: FeedbackStore, batches: frozenset[str], *, text_sets: bool = False
) -> list[ClaimState]:
    """Claims whose run may be reading one of ``batches`` now, oldest first.

    Args:
        settings: ``claims`` has the lease.
        store: has claims and corpora.
        batches: what is to be forgotten is in them.
        text_sets: it is in texts that runs were given, too: no claim says which, so that every run may read it.
    """
    claims = read_claims(store.storage, lease_seconds=settings.claims.lease_seconds)
    return [claim for claim in claims if is_at_work(claim) and (text_sets or reads(store, claim.corpus, batches))]


def is_at_work(claim: ClaimState) -> bool:
    """Also where it has been silent for long, if its process lives, and where a cluster may be at work on it."""
    if claim.is_submitted:
        return True
    if claim.state == "silent":
        return claim.owner.place == this_owner().place and not is_gone(claim.owner)
    return claim.state == "running"


def reads(store: FeedbackStore, corpus: str, batches: frozenset[str]) -> bool:
    """Whether one of ``batches`` is in the corpus; a corpus that cannot be read may have any of them."""
    try:
        return any(batch.digest in batches for batch in store.read_corpus(corpus).batches)
    except BadInputError:
        return bool(batches)
