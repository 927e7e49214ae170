"""Bring the batches of a corpus together as one snapshot.

In: the feedback store and the digest of a corpus written there. Out: a snapshot (``rewardloop.snapshots``) whose files
are the batches' own, and the corpus evidence, with what people said of earlier policies.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from rewardloop.errors import BadInputError
from rewardloop.evaluation.human import human_comparisons
from rewardloop.evidence import BatchLine, CorpusEvidence
from rewardloop.feedback.comparisons import POLICY
from rewardloop.feedback.store import BatchManifest, Corpus, CorpusBatch, FeedbackStore
from rewardloop.kept import Kept, code_fingerprint, key_of
from rewardloop.snapshots import Snapshot, SnapshotBatch, file_of, write_snapshot
from rewardloop.steps.step_run import step_run
from rewardloop.transfer import file_digest

_IS_COMPARED = (
    pl.col("responses")
    .list.eval(pl.element().struct.field("model").str.starts_with(POLICY))
    .list.any()
    .fill_null(False)
)
"""Rows that say something of earlier policies."""
_KIND = "comparisons"
_LARGE = 5_000
"""Rows from which on it pays to keep whether a batch says something of earlier policies."""


def load_corpus(*, store: str, corpus_digest: str, code_version: str, corpus: Path) -> None:
    """Read one corpus.

    Args:
        store: URL of the feedback store.
        corpus_digest: names the corpus.
        code_version: fingerprint of the code; part of the pipeline's cache key.
        corpus: output folder.

    Raises:
        BadInputError: the corpus is unknown or has no batches, or a batch was changed or is missing.
    """
    del code_version  # known to the cache, not to the work
    with step_run("load_corpus", output=corpus) as run:
        feedback = FeedbackStore.open(store)
        wanted = feedback.read_corpus(corpus_digest)
        if not wanted.batches:
            reasons = "".join(f"\n  {digest[:12]}: {reason}" for digest, reason in wanted.left_out.items())
            raise BadInputError(f"{store}: no batch to train on; ingest one, or accept a refused one:{reasons}")
        manifests = {batch.digest: batch for batch in feedback.batches()}
        snapshot = _snapshot(feedback, wanted, manifests, corpus)
        weights = feedback.batch_weights(wanted)
        lines = [_line(batch, manifests[batch.digest], weights[batch.digest]) for batch in wanted.batches]
        labels = sum(line.labels for line in lines)
        run.write(
            "corpus",
            CorpusEvidence(
                digest=corpus_digest,
                window=wanted.window,
                batches=lines,
                left_out=wanted.left_out,
                groups=snapshot.count,
                labels=labels,
                comparisons=human_comparisons(_compared(snapshot, Kept(feedback.storage))),
            ),
        )
        batches = "1 batch" if len(lines) == 1 else f"{len(lines):,} batches"
        run.produced = f"{snapshot.count:,} groups with {labels:,} labels from {batches}"


def _snapshot(
    feedback: FeedbackStore, wanted: Corpus, manifests: Mapping[str, BatchManifest], folder: Path
) -> Snapshot:
    """The batches' files, and which of their rows came in a batch before: those of a refused batch may have come again
    before somebody accepted it after all."""
    files = [file_of(place, batch.digest) for place, batch in enumerate(wanted.batches)]
    records = [
        feedback.fetch_batch(batch.digest, folder / file) for batch, file in zip(wanted.batches, files, strict=True)
    ]
    first = pl.concat(records).is_first_distinct() if len(records) > 1 else pl.repeat(True, len(records[0]), eager=True)
    batches, start = [], 0
    for batch, file, mine in zip(wanted.batches, files, records, strict=True):
        without = (~first.slice(start, len(mine))).arg_true().to_list()
        start += len(mine)
        if len(without) < len(mine):
            batches.append(
                SnapshotBatch(
                    digest=batch.digest,
                    file=file,
                    sha256=file_digest(folder / file),
                    rows=len(mine),
                    without=without,
                    ingested_at=manifests[batch.digest].ingested_at,
                )
            )
    return write_snapshot(folder, batches, wanted.half_life_days)


def _line(batch: CorpusBatch, manifest: BatchManifest, weight: float) -> BatchLine:
    return BatchLine(
        digest=batch.digest,
        source=manifest.source,
        importer=manifest.importer,
        ingested_at=manifest.ingested_at.isoformat(timespec="seconds"),
        groups=manifest.groups,
        labels=manifest.labels,
        labelers=manifest.labelers,
        accepted_by=batch.accepted_by,
        weight=weight,
    )


def _compared(snapshot: Snapshot, kept: Kept) -> pl.DataFrame:
    """The rows that say something of earlier policies; a large batch is asked once whether it has any."""
    found = []
    for batch in snapshot.batches:
        key = key_of(content=batch.content, code=code_fingerprint("steps", "feedback"))
        known = kept.read(_KIND, key) if batch.count >= _LARGE else None
        if known is not None and not json.loads(known["count.json"]):
            continue
        rows = snapshot.scan_batch(batch).filter(_IS_COMPARED).collect()
        if known is None and batch.count >= _LARGE:
            kept.keep(_KIND, key, {"count.json": json.dumps(len(rows)).encode()}, [batch.digest])
        found.append(rows)
    return pl.concat(found) if found else snapshot.scan().head(0).collect()
