"""The golden set over the years: generations of documents that are never trained on, and how often each was looked at.

In: the store, a candidate that is judged. Out: which documents judge it, and the number of this use. A *generation* is
what became golden together: the first ingest's share, then each ``golden add``. Every generation stays golden for ever.
Those in use are the newest ones that together have as many documents as the first; a comparison is judged by the uses
of the most used of them, so a few fresh documents among worn ones do not count as a fresh set.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rewardloop.errors import BadInputError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.store_files import GoldenGeneration, GoldenUse
from rewardloop.records import text_digest
from rewardloop.storage import Storage

_USES = "golden-uses"


@dataclass(frozen=True)
class Generation:
    """One generation as it stands: ``documents`` are those that can be compared on."""

    batch: str
    added_at: datetime
    documents: frozenset[str]
    uses: int
    in_use: bool


def generations(storage: Storage, present: Collection[str] | None = None) -> list[Generation]:
    """Generations of the golden set, oldest first.

    Args:
        storage: of the feedback store.
        present: the golden documents that a run can compare on; None: those whose batch is in the current corpus.
    """
    store = FeedbackStore(storage)
    known = store.golden_generations()
    there = _present(known, store, present)
    chosen = _in_use([len(documents) for documents in there])
    return [
        Generation(
            batch=one.batch,
            added_at=one.added_at,
            documents=documents,
            uses=len(_uses(storage, one)),
            in_use=place in chosen,
        )
        for place, (one, documents) in enumerate(zip(known, there, strict=True))
    ]


def documents_in_use(storage: Storage, present: Collection[str] | None = None) -> set[str]:
    """The golden documents that a comparison rests on; arguments as of ``generations``."""
    return {document for one in generations(storage, present) if one.in_use for document in one.documents}


def golden_uses(storage: Storage, present: Collection[str] | None = None) -> int:
    """How many candidates were judged by the most used generation in use."""
    return max((one.uses for one in generations(storage, present) if one.in_use), default=0)


def use_golden(storage: Storage, candidate: str, present: Collection[str] | None = None) -> int:
    """Count one use of the golden set, and return its number, from 1.

    The same candidate judged again is the same use and keeps its number. Numbers are conditional creates, so of several
    runs at once each gets its own.

    Args:
        storage: of the feedback store.
        candidate: digest of the candidate's files.
        present: as of ``generations``.
    """
    judging = {one.batch for one in generations(storage, present) if one.in_use}
    numbers = [
        _count(storage, one, candidate) for one in FeedbackStore(storage).golden_generations() if one.batch in judging
    ]
    return max(numbers, default=1)


def _present(
    known: Sequence[GoldenGeneration], store: FeedbackStore, present: Collection[str] | None
) -> list[frozenset[str]]:
    """Documents of each generation that can be compared on; those that came again, corrected, count where they did."""
    inside = {batch.digest for batch in store.current_corpus().batches} if present is None else set()
    found: list[frozenset[str]] = []
    later: set[str] = set()
    for one in reversed(known):
        if present is None:
            own = set(one.documents) if one.batch in inside else set()
        else:
            own = set(one.documents) & set(present)
        found.append(frozenset(own - later))
        later |= own
    return found[::-1]


def _in_use(sizes: Sequence[int]) -> set[int]:
    """Places of the newest generations that together have as many documents as the first that has any."""
    wanted = next((size for size in sizes if size), 0)
    chosen: set[int] = set()
    total = 0
    for place in reversed(range(len(sizes))):
        if total >= wanted:
            break
        if sizes[place]:
            chosen.add(place)
            total += sizes[place]
    return chosen


def _folder(one: GoldenGeneration) -> str:
    return f"{_USES}/{text_digest(chr(10).join(sorted(one.documents)))}"


def _uses(storage: Storage, one: GoldenGeneration) -> list[str]:
    """The candidates in the order of their numbers."""
    candidates = []
    for name in storage.list(_folder(one)):
        place = f"{_folder(one)}/{name}"
        try:
            candidates.append(GoldenUse.model_validate_json(storage.read(place)).candidate)
        except ValueError as error:
            raise BadInputError(f"{storage.path(place)}: is not a use of the golden set; restore it") from error
    return candidates


def _count(storage: Storage, one: GoldenGeneration, candidate: str) -> int:
    while True:
        before = _uses(storage, one)
        if candidate in before:
            return before.index(candidate) + 1
        use = GoldenUse(candidate=candidate, at=datetime.now(UTC))
        name = f"{_folder(one)}/{len(before) + 1:08d}.json"
        if storage.create(name, (use.model_dump_json(indent=1) + "\n").encode()):
            return len(before) + 1
