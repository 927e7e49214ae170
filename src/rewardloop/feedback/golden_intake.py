"""Fresh golden labels: files of feedback become a generation of the golden set, if nobody can have trained on them.

In: files in any format that ``ingest`` reads. Out: a batch all of whose documents are golden, or nothing. Groups that a
batch of the store has already are refused with their reason and counted.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback import comparisons, task_keys
from rewardloop.feedback.forgotten import copy_list
from rewardloop.feedback.ingest import check_key, check_refused, ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.store import BatchManifest, FeedbackStore, batch_digest
from rewardloop.feedback.store_files import GoldenGeneration
from rewardloop.records import normalize_text
from rewardloop.storage import Storage

GOLDEN_ALREADY = "in the golden set already"
NOT_RANDOM = "not sampled at random, so it cannot be golden"
SEEN = "its prompt or document came with a batch before, and may have been trained on"
SHARES_TEXT = "one of its texts came with a batch before, and may have been trained on"
_SHOWN = 5


@dataclass(frozen=True)
class GoldenReport:
    """What an intake did; counts are groups, but for ``rows_quarantined``."""

    digest: str | None
    """The new generation's batch; None when nothing was taken."""
    taken: int
    documents: int
    rows_quarantined: int
    refused: dict[str, int] = field(default_factory=dict)
    """Reason -> groups."""
    reasons: list[str] = field(default_factory=list)
    """The first refused groups and quarantined rows, with their places."""

    @property
    def summary(self) -> str:
        """One line for people."""
        left_out = "".join(f"; {count:,} refused: {reason}" for reason, count in self.refused.items())
        left_out += f"; {self.rows_quarantined:,} rows quarantined" if self.rows_quarantined else ""
        if self.digest is None:
            return f"nothing was taken into the golden set{left_out}"
        return (
            f"{self.taken:,} groups of {self.documents:,} documents taken into the golden set "
            f"(batch {self.digest[:12]}){left_out}"
        )


@dataclass(frozen=True)
class _Staged:
    """What the files hold, read like any feedback, before anything of it is in the store."""

    report: IngestReport
    frame: pl.DataFrame | None
    manifest: BatchManifest | None
    quarantined: list[dict[str, object]]


def add_golden(
    paths: Sequence[Path],
    store: FeedbackStore,
    settings: Settings,
    *,
    key: bytes,
    format: str = "auto",
    options: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: bool = False,
) -> GoldenReport:
    """Take new groups into the golden set; the same files twice add nothing.

    Refused are groups whose prompt, document or text a batch of the store has: a model may have been trained on them.
    The documents are set aside before their batch is written, so that no run can train on them, whatever happens.

    Args:
        paths, store, settings, key, format, options, columns, say, progress: as of ``ingest``.

    Raises:
        BadInputError: whatever ``ingest`` refuses, or a store without a batch.
    """
    if not store.batches():
        raise BadInputError(
            f"{store.storage.url}: no batch yet, and the first one gives the golden set its first share; start with: "
            "rewardloop ingest FILE"
        )
    store.check_splits(settings.splits)
    staged = _stage(paths, store, settings, key, format, options or {}, columns or {}, say, progress)
    if staged.frame is None or staged.manifest is None:
        return _report(None, None, {}, [], staged)
    why = _refusals(staged.frame, store)
    refused = Counter(reason for reason in why if reason)
    shown = [f"{place}: {reason}" for place, reason in zip(staged.frame["place"], why, strict=True) if reason][:_SHOWN]
    taken = staged.frame.filter(pl.Series([reason is None for reason in why], dtype=pl.Boolean))
    if taken.is_empty():
        return _report(None, None, refused, shown, staged)
    digest = batch_digest(taken["record"].to_list())
    manifest = _manifest(staged, taken, digest, refused)
    check_key(store, manifest)
    check_refused(store, digest)
    documents = sorted(taken["document"].unique())
    store.add_golden_generation(GoldenGeneration(batch=digest, documents=documents, added_at=datetime.now(UTC)))
    if staged.quarantined:
        store.quarantine(digest, "rows", staged.quarantined)
    store.write_batch(taken, manifest)
    return _report(digest, taken, refused, shown, staged)


def _stage(
    paths: Sequence[Path],
    store: FeedbackStore,
    settings: Settings,
    key: bytes,
    format: str,
    options: Mapping[str, str],
    columns: Mapping[str, str],
    say: Callable[[str], None],
    progress: bool,
) -> _Staged:
    """Read the files as an ingest would, into a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        own = FeedbackStore.open(folder)
        copy_list(store.storage, own.storage)
        _copy_keys(store.storage, own.storage)
        report = ingest(
            paths, own, settings, key=key, format=format, options=options, columns=columns, say=say, progress=progress
        )
        names = [f"quarantine/{name}/rows.jsonl" for name in own.storage.list("quarantine")]
        rows = [json.loads(line) for name in names for line in own.storage.read(name).splitlines()]
        if report.digest is None:
            return _Staged(report, None, None, rows)
        return _Staged(report, own.read_batch(report.digest), own.batch(report.digest), rows)


def _copy_keys(source: Storage, target: Storage) -> None:
    """What tasks that were exported from a store do not tell by themselves."""
    for folder in (task_keys.FOLDER, comparisons.FOLDER):
        for name in source.list(folder):
            target.create(f"{folder}/{name}", source.read(f"{folder}/{name}"))


def _refusals(frame: pl.DataFrame, store: FeedbackStore) -> list[str | None]:
    """Why each group cannot be golden; None for those that can."""
    inside = {batch.digest for batch in store.current_corpus().batches}
    golden = store.golden_documents()
    # The labels of a refused golden batch may come again, corrected: its documents were never trained on.
    refused = {one.batch for one in store.golden_generations()[1:]} - inside
    documents: set[str] = set()
    texts: set[str] = set()
    for batch in store.batches():
        if batch.digest not in refused:
            known = store.read_batch(batch.digest)
            documents.update(known["document"])
            texts.update(*_texts(known))
    return [
        GOLDEN_ALREADY
        if document in documents and document in golden
        else SEEN
        if document in documents
        else SHARES_TEXT
        if not texts.isdisjoint(own)
        else NOT_RANDOM
        if sampling != "random"
        else None
        for document, sampling, own in zip(frame["document"], frame["sampling"], _texts(frame), strict=True)
    ]


def _texts(frame: pl.DataFrame) -> list[set[str]]:
    """Per row the normalized texts that came without a prompt: such a text must not be in two splits either."""
    return [
        set() if prompt else {normalize_text(response["content"]) for response in responses}
        for prompt, responses in frame.select("prompt", "responses").iter_rows()
    ]


def _manifest(staged: _Staged, taken: pl.DataFrame, digest: str, refused: Mapping[str, int]) -> BatchManifest:
    """The batch's manifest. Its rows are counted in groups: which rows a group came from is not kept."""
    assert staged.manifest is not None
    about = staged.manifest
    groups = taken.height + sum(refused.values())
    labels = taken.select(pl.col("labels").explode()).unnest("labels")
    return about.model_copy(
        update={
            "digest": digest,
            # Tells these from the very same files ingested like any feedback, whose refused groups may be taken then.
            "options": about.options | {"golden": True},
            "rows_in": groups + about.rows_quarantined + about.rows_duplicate + sum(about.skipped.values()),
            "rows_taken": taken.height,
            "skipped": about.skipped | dict(refused),
            "groups": taken.height,
            "labels": labels.height,
            "labelers": labels["labeler"].drop_nulls().n_unique() or None,
        }
    )


def _report(
    digest: str | None, taken: pl.DataFrame | None, refused: Mapping[str, int], shown: list[str], staged: _Staged
) -> GoldenReport:
    return GoldenReport(
        digest=digest,
        taken=0 if taken is None else taken.height,
        documents=0 if taken is None else taken["document"].n_unique(),
        rows_quarantined=staged.report.rows_quarantined,
        refused=dict(refused),
        reasons=[*shown, *(f"{reason} (quarantined)" for reason in staged.report.reasons)],
    )
