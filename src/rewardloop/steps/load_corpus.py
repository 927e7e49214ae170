"""Bring the batches of a corpus together as one snapshot.

In: the feedback store and the digest of a corpus written there. Out: ``records.parquet`` (the FEEDBACK columns,
``batch`` and, in a window that decays, ``weight``) and the corpus evidence, with what people said of earlier policies.
"""

from pathlib import Path

import polars as pl

from rewardloop.errors import BadInputError
from rewardloop.evaluation.human import human_comparisons
from rewardloop.evidence import BatchLine, CorpusEvidence
from rewardloop.feedback.comparisons import POLICY
from rewardloop.feedback.store import FeedbackStore
from rewardloop.steps.step_run import step_run

_IS_COMPARED = (
    pl.col("responses")
    .list.eval(pl.element().struct.field("model").str.starts_with(POLICY))
    .list.any()
    .fill_null(False)
)
"""Rows that say something of earlier policies."""


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
        frames: list[pl.LazyFrame] = []
        lines: list[BatchLine] = []
        weights = feedback.batch_weights(wanted)
        for batch in wanted.batches:
            manifest = feedback.batch(batch.digest)
            frame = feedback.scan_batch(batch.digest).with_columns(batch=pl.lit(batch.digest))
            if wanted.half_life_days is not None:
                frame = frame.with_columns(weight=pl.lit(weights[batch.digest]))
            frames.append(frame)
            lines.append(
                BatchLine(
                    digest=batch.digest,
                    source=manifest.source,
                    importer=manifest.importer,
                    ingested_at=manifest.ingested_at.isoformat(timespec="seconds"),
                    groups=manifest.groups,
                    labels=manifest.labels,
                    labelers=manifest.labelers,
                    accepted_by=batch.accepted_by,
                    weight=weights[batch.digest],
                )
            )
        groups = _write(frames, corpus / "records.parquet")
        compared = pl.scan_parquet(corpus / "records.parquet").filter(_IS_COMPARED).collect()
        labels = sum(line.labels for line in lines)
        run.write(
            "corpus",
            CorpusEvidence(
                digest=corpus_digest,
                window=wanted.window,
                batches=lines,
                left_out=wanted.left_out,
                groups=groups,
                labels=labels,
                comparisons=human_comparisons(compared),
            ),
        )
        batches = "1 batch" if len(lines) == 1 else f"{len(lines):,} batches"
        run.produced = f"{groups:,} groups with {labels:,} labels from {batches}"


def _write(frames: list[pl.LazyFrame], target: Path) -> int:
    """Write all rows without holding them, and give their number."""
    records = pl.concat([frame.select("batch", "record") for frame in frames]).collect()
    # Rows of a refused batch may have come again before somebody accepted it after all.
    again = records.filter(~pl.col("record").is_first_distinct())
    rows = pl.concat(frames)
    if len(again):
        rows = rows.join(again.lazy(), on=["batch", "record"], how="anti", maintain_order="left")
    rows.sink_parquet(target, compression_level=1)
    return len(records) - len(again)
