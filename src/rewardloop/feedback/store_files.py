"""The JSON files of the feedback store, as models, and the digests that name batches and corpora."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from rewardloop.config import CorpusSettings, SplitSettings

NORMALIZATION = "nfkc-casefold-spaces-1"
"""Names what ``rewardloop.records.normalize_text`` does; a change of it needs another name."""

_SLICE = 1 << 16
_WINDOW = r"^(all|last \S+ days|decay \S+ days)$"


class StoreFile(BaseModel):
    """Base of the files below: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceFile(StoreFile):
    """A file that a batch came from; ``name`` is its base name."""

    name: str
    sha256: str


class BatchManifest(StoreFile):
    """What was ingested, from what, by which importer, and the counts.

    rows_in = rows_taken + rows_quarantined + rows_duplicate + the sum of skipped.
    """

    format: Literal[1] = 1
    digest: str
    """SHA-256 over the sorted record hashes."""
    ingested_at: datetime
    rewardloop: str
    """Version that ingested it."""
    sources: list[SourceFile]
    importer: str
    importer_reason: str
    options: dict[str, Any] = Field(default_factory=dict)
    rows_in: int
    rows_taken: int
    rows_quarantined: int
    rows_duplicate: int
    skipped: dict[str, int] = Field(default_factory=dict)
    """Why nobody judged anything in them -> rows."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Why something inside rows that were taken is in no label -> how often."""
    groups: int
    labels: int
    labelers: int | None
    """Distinct labelers; None where the source has no identities."""
    labeler_key: str | None = None
    """Fingerprint of the key that made pseudonyms, or ids of redacted texts; None where nothing follows from a key."""
    splits: SplitSettings
    """The split settings at ingest: those of the store's first batch become the store's."""
    redacted: dict[str, int] = Field(default_factory=dict)
    """What was taken out of texts -> how often."""
    forgetting: int = 0
    """The last forgetting whose list it was made by; see ``rewardloop.feedback.forgotten``."""
    replaces: str | None = None
    """The batch that this one was made of when something in it was forgotten; counts of rows are still that one's."""

    @property
    def source(self) -> str:
        """Names of the source files, for messages."""
        return ", ".join(source.name for source in self.sources)


class SplitsFile(StoreFile):
    """``splits.json``: frozen for the life of the store."""

    format: Literal[1] = 1
    normalization: str
    first_batch: str
    splits: SplitSettings


class Refusal(StoreFile):
    """``refused/<digest>.json``."""

    reasons: list[str]
    at: datetime


class Acceptance(StoreFile):
    """``accepted/<digest>.json``."""

    by: str
    reason: str
    at: datetime


class CorpusBatch(StoreFile):
    """A batch of a corpus; ``accepted_by`` names who accepted it against validation."""

    digest: str
    accepted_by: str | None = None


class Corpus(StoreFile):
    """A set of batches under a window policy; ``left_out``: batch digest -> why."""

    digest: str
    window: Annotated[str, Field(pattern=_WINDOW)] = "all"
    """all | last N days | decay N days"""
    batches: list[CorpusBatch]
    left_out: dict[str, str] = Field(default_factory=dict)

    @property
    def half_life_days(self) -> float | None:
        """Age at which labels weigh half; None where they all weigh the same."""
        kind, _, rest = self.window.partition(" ")
        return float(rest.removesuffix(" days")) if kind == "decay" else None


class GoldenGeneration(StoreFile):
    """``golden/added/<batch>.json``: documents that became golden together, in a batch that has no others."""

    batch: str
    documents: list[str]
    added_at: datetime


class GoldenUse(StoreFile):
    """``golden-uses/<generation>/<number>.json``: a candidate that was judged by a generation of the golden set."""

    candidate: str
    at: datetime


def batch_digest(records: Iterable[str]) -> str:
    """Content address of a batch: SHA-256 over its sorted record hashes."""
    return hashlib.sha256("\n".join(sorted(records)).encode()).hexdigest()


def records_digest(records: pl.Series) -> str:
    """``batch_digest`` of a column of record hashes, which is never held as Python's strings."""
    digest, ordered = hashlib.sha256(), records.sort()
    for start in range(0, len(ordered), _SLICE):
        digest.update((("\n" if start else "") + "\n".join(ordered.slice(start, _SLICE))).encode())
    return digest.hexdigest()


def corpus_digest(batches: Iterable[CorpusBatch], window: str = "all") -> str:
    """SHA-256 over window policy, sorted batch digests and which of them were accepted against validation."""
    lines = sorted(f"{batch.digest} {batch.accepted_by is not None}" for batch in batches)
    return hashlib.sha256("\n".join([window, *lines]).encode()).hexdigest()


def window_text(settings: CorpusSettings) -> str:
    """The window policy in words, as it enters the corpus's digest: "all", "last 30 days", "decay 60 days"."""
    if settings.window == "all":
        return "all"
    days = settings.days if settings.window == "last_days" else settings.half_life_days
    kind = settings.window.removesuffix("_days")
    return f"{kind} {str(days).removesuffix('.0')} days"
