"""What is in the store and in no model yet.

In: the feedback store, the claims, and the corpus of this moment. Out: its batches that no finished run has read, and
the labels in them. A batch that was accepted against validation counts as new: the run that refused it left it out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rewardloop.errors import BadInputError
from rewardloop.feedback.store import BatchManifest, Corpus, FeedbackStore

if TYPE_CHECKING:
    from rewardloop.operation.claims import ClaimState

_Key = tuple[str, bool]
"""Digest of a batch, and whether it was accepted against validation."""


@dataclass(frozen=True)
class Pending:
    """Feedback that waits for a run."""

    batches: tuple[BatchManifest, ...]
    """Oldest first."""
    labels: int
    oldest_at: datetime | None
    """When the oldest of them was ingested; None when there are none."""


def pending(
    store: FeedbackStore, claims: Iterable["ClaimState"], corpus: Corpus, *, config: str | None = None
) -> Pending:
    """The batches of ``corpus`` that no finished run has read.

    Args:
        store: has the manifests, and the corpora of earlier runs.
        claims: as ``read_claims`` gives them.
        corpus: what a run that starts now would read.
        config: count only runs of this configuration (its digest); None: of any.

    Raises:
        BadInputError: a manifest or the corpus of a run was changed in the store.
    """
    finished = {claim.corpus for claim in claims if claim.state == "finished" and config in (None, claim.config)}
    # One run of the whole corpus, by far the commonest answer, needs no manifest.
    read = _keys(corpus) if corpus.digest in finished else _read_by(store, sorted(finished))
    wanted = {digest for digest, accepted in _keys(corpus) - read}
    batches = tuple(batch for batch in store.batches() if batch.digest in wanted) if wanted else ()
    return Pending(
        batches=batches,
        labels=sum(batch.labels for batch in batches),
        oldest_at=min((batch.ingested_at for batch in batches), default=None),
    )


def _read_by(store: FeedbackStore, corpora: Sequence[str]) -> set[_Key]:
    read: set[_Key] = set()
    for digest in corpora:
        try:
            read |= _keys(store.read_corpus(digest))
        except BadInputError as error:
            raise BadInputError(f"claims/{digest[:12]}: the corpus of a finished run: {error}") from error
    return read


def _keys(corpus: Corpus) -> set[_Key]:
    return {(batch.digest, batch.accepted_by is not None) for batch in corpus.batches}
