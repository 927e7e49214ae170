"""The feedback store: immutable batches, what was decided about them, and what was set aside from the first.

A batch exists once its ``manifest.json`` does; that file is created last and only if absent, so a crash leaves the
whole batch or none. ``splits.json`` is created after the first manifest and names that batch, the golden set and the
anchors follow from the two. Whoever opens the store next finishes what a crash cut short there, with the same result.
"""

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import ValidationError

from rewardloop.config import CorpusSettings, SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.forgotten import ForgottenList, batches_in_force, read_forgotten
from rewardloop.feedback.set_aside import choose_anchors, choose_golden_documents, golden_rows
from rewardloop.feedback.store_files import (
    NORMALIZATION,
    Acceptance,
    BatchManifest,
    Corpus,
    CorpusBatch,
    GoldenGeneration,
    Refusal,
    SourceFile,
    SplitsFile,
    StoreFile,
    batch_digest,
    corpus_digest,
    records_digest,
    window_text,
)
from rewardloop.snapshots import decay
from rewardloop.storage import Storage
from rewardloop.tables import FEEDBACK
from rewardloop.transfer import fetch

__all__ = [
    "BatchManifest",
    "Corpus",
    "CorpusBatch",
    "FeedbackStore",
    "SourceFile",
    "batch_digest",
    "corpus_digest",
    "records_digest",
]

_M = TypeVar("_M", bound=StoreFile)


@dataclass(frozen=True)
class FeedbackStore:
    """The store under one URL. Batches and decisions are never changed: they are created only if absent."""

    storage: Storage

    @classmethod
    def open(cls, url: str) -> "FeedbackStore":
        """Open the store at ``url``; nothing is created before something is written."""
        return cls(Storage.open(url))

    # Batches ---------------------------------------------------------------------------------------------------------
    def batches(self) -> list[BatchManifest]:
        """Committed batches, oldest first; of those in which something was forgotten, what is in their place."""
        return batches_in_force(self.storage, self._manifests)

    def _manifests(self) -> list[BatchManifest]:
        names = (f"batches/{name}/manifest.json" for name in self.storage.list("batches"))
        found = (self._read_model(BatchManifest, name) for name in names)
        return sorted((batch for batch in found if batch), key=lambda batch: (batch.ingested_at, batch.digest))

    def batch(self, prefix: str) -> BatchManifest:
        """The one batch whose digest begins with ``prefix``."""
        batches = self.batches()
        found = [batch for batch in batches if prefix and batch.digest.startswith(prefix)]
        if len(found) != 1:
            known = ", ".join(batch.digest[:12] for batch in batches) or "none"
            problem = f"{len(found)} batches begin with it" if found else "no such batch"
            raise BadInputError(f"batch {prefix!r}: {problem}; batches of {self.storage.url}: {known}")
        return found[0]

    def read_batch(self, digest: str) -> pl.DataFrame:
        """Records of a committed batch (``FEEDBACK``), checked against the digest."""
        if self._read_model(BatchManifest, f"batches/{digest}/manifest.json") is None:
            forgotten = digest in read_forgotten(self.storage).replacements()
            why = "; something in it was forgotten, another is in its place: start the run again" if forgotten else ""
            raise BadInputError(f"batch {digest[:12]!r}: no such batch in {self.storage.url}{why}")
        name = f"batches/{digest}/records.parquet"
        frame = self._read_frame(name)
        if frame.schema != FEEDBACK or records_digest(frame["record"]) != digest:
            raise BadInputError(f"{self.storage.path(name)}: was changed after ingest; restore it from a copy")
        return frame

    def scan_batch(self, digest: str) -> pl.LazyFrame:
        """``read_batch`` for large batches: the same checks, but rows are read only when asked for."""
        name = f"batches/{digest}/records.parquet"
        if self._read_model(BatchManifest, f"batches/{digest}/manifest.json") is None:
            return self.read_batch(digest).lazy()  # says why there is none
        rows = self._scan(name)
        self._sound_records(rows, digest)
        return rows

    def fetch_batch(self, digest: str, target: Path) -> pl.Series:
        """Put a committed batch's file at ``target``, checked as by ``read_batch``; gives its record hashes."""
        name = f"batches/{digest}/records.parquet"
        if self._read_model(BatchManifest, f"batches/{digest}/manifest.json") is None:
            self.read_batch(digest)  # says why there is none
        try:
            fetch(self.storage, name, target)
        except FileNotFoundError as error:
            raise BadInputError(f"{self.storage.path(name)}: is missing; restore it from a copy") from error
        return self._sound_records(pl.scan_parquet(target), digest)

    def _sound_records(self, rows: pl.LazyFrame, digest: str) -> pl.Series:
        place = self.storage.path(f"batches/{digest}/records.parquet")
        try:
            known = rows.collect_schema() == FEEDBACK
            records = rows.select("record").collect()["record"] if known else pl.Series()
        except pl.exceptions.PolarsError as error:
            raise BadInputError(f"{place}: cannot be read: {error}; restore it") from error
        if not known or records_digest(records) != digest:
            raise BadInputError(f"{place}: was changed after ingest; restore it from a copy")
        return records

    def record_hashes(self) -> set[str]:
        """Hashes of all records that the next corpus has: those of a refused batch may come again, corrected."""
        return set(self.known_records())

    def known_records(self) -> pl.Series:
        """``record_hashes`` as a column: a million of them take a fifth of the memory."""
        inside = self.current_corpus().batches
        frames = [self._read_frame(f"batches/{batch.digest}/records.parquet", ["record"]) for batch in inside]
        return pl.concat([pl.Series("record", [], pl.String), *(frame["record"] for frame in frames)]).unique()

    def write_batch(self, rows: pl.DataFrame | Path, manifest: BatchManifest) -> bool:
        """Commit a batch, given as ``FEEDBACK`` rows or as a Parquet file of them; False when it is there already."""
        name = f"batches/{manifest.digest}/manifest.json"
        if self.storage.exists(name):
            return False
        data = _parquet(rows) if isinstance(rows, pl.DataFrame) else rows.read_bytes()
        self.storage.write(f"batches/{manifest.digest}/records.parquet", data)
        created = self._create_model(name, manifest)
        self._splits_file()
        self._complete_set_aside()
        return created

    def quarantine(self, digest: str, name: str, rows: list[dict[str, Any]]) -> None:
        """Write ``quarantine/<digest>/<name>.jsonl``, readable by its owner only."""
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        self.storage.write(f"quarantine/{digest}/{name}.jsonl", lines.encode(), mode=0o600)

    # Decisions -------------------------------------------------------------------------------------------------------
    def refuse(self, digest: str, reasons: list[str]) -> None:
        """Leave the batch out of corpora until it is accepted; the first refusal stands."""
        self._create_model(f"refused/{digest}.json", Refusal(reasons=reasons, at=datetime.now(UTC)))

    def accept(self, digest: str, *, by: str, reason: str) -> None:
        """Take a refused batch into corpora after all; the first acceptance stands.

        Raises:
            BadInputError: the batch is not refused.
        """
        if self.refusal(digest) is None:
            raise BadInputError(f"batch {digest[:12]}: is not refused; there is nothing to accept")
        self._create_model(f"accepted/{digest}.json", Acceptance(by=by, reason=reason, at=datetime.now(UTC)))

    def refusal(self, digest: str) -> list[str] | None:
        """Why the batch was refused; None when it was not."""
        refusal = self._read_model(Refusal, f"refused/{digest}.json")
        return refusal.reasons if refusal else None

    def accepted_by(self, digest: str) -> str | None:
        """Who accepted the refused batch; None when nobody did."""
        acceptance = self._read_model(Acceptance, f"accepted/{digest}.json")
        return acceptance.by if acceptance else None

    # Corpora ---------------------------------------------------------------------------------------------------------
    def current_corpus(self, wanted: CorpusSettings | None = None) -> Corpus:
        """Committed batches inside the window, oldest first, but refused ones that nobody accepted.

        Args:
            wanted: the window policy; all batches where it is left out. Ages are counted from the newest batch that
                is not refused.
        """
        wanted = wanted or CorpusSettings()
        inside: list[tuple[BatchManifest, str | None]] = []
        left_out: dict[str, str] = {}
        for batch in self.batches():
            refusal, accepted_by = self.refusal(batch.digest), self.accepted_by(batch.digest)
            if refusal is None or accepted_by is not None:
                inside.append((batch, accepted_by))
            else:
                left_out[batch.digest] = "refused: " + "; ".join(refusal)
        forgotten = read_forgotten(self.storage)
        left_out |= {batch.digest: why for batch, _ in inside if (why := forgotten.unchecked(batch))}
        inside = [(batch, by) for batch, by in inside if batch.digest not in left_out]
        window = window_text(wanted)
        if inside and wanted.days is not None:
            oldest = inside[-1][0].ingested_at - timedelta(days=wanted.days)
            why = f"outside the window: {window}, counted from the newest batch"
            left_out |= {batch.digest: why for batch, _ in inside if batch.ingested_at < oldest}
        batches = [CorpusBatch(digest=one.digest, accepted_by=by) for one, by in inside if one.digest not in left_out]
        return Corpus(digest=corpus_digest(batches, window), window=window, batches=batches, left_out=left_out)

    def batch_weights(self, corpus: Corpus) -> dict[str, float]:
        """What a label of each batch weighs: 0.5 ** (age / half-life), 1 for the newest; 1 for all without decay."""
        times = {batch.digest: batch.ingested_at for batch in self.batches()}
        wanted = [batch.digest for batch in corpus.batches]
        return decay({one: times.get(one) or self.batch(one).ingested_at for one in wanted}, corpus.half_life_days)

    def write_corpus(self, corpus: Corpus) -> None:
        """Keep what a run is about to read. Equal digests have equal batches; what was left out is the latest word."""
        self.storage.write(f"corpora/{corpus.digest}.json", _json(corpus))

    def read_corpus(self, digest: str) -> Corpus:
        """The corpus with this digest."""
        corpus = self._read_model(Corpus, f"corpora/{digest}.json")
        if corpus is None:
            raise BadInputError(f"corpus {digest[:12]!r}: not in {self.storage.url}; start the run again")
        if corpus_digest(corpus.batches, corpus.window) != digest:
            raise BadInputError(f"{self.storage.path(f'corpora/{digest}.json')}: was changed; start the run again")
        return corpus

    # Set aside at the first ingest -----------------------------------------------------------------------------------
    def splits(self) -> SplitSettings | None:
        """The store's split settings; None before the first ingest."""
        splits = self._splits_file()
        return splits.splits if splits else None

    def check_splits(self, wanted: SplitSettings) -> None:
        """Raise BadInputError naming every value that differs from the store's; fine before the first ingest."""
        kept = self._splits_file()
        if kept is None:
            return
        differences = [
            f"splits.{name}: the store has {value!r}, the configuration says {getattr(wanted, name)!r}"
            for name, value in kept.splits
            if getattr(wanted, name) != value
        ]
        if kept.normalization != NORMALIZATION:
            differences.append(
                f"normalization: the store has {kept.normalization!r}, rewardloop uses {NORMALIZATION!r}"
            )
        if differences:
            lines = "\n  ".join(differences)
            raise BadInputError(
                f"{self.storage.url}: splits are frozen since the first ingest. Put the store's values into the "
                f"configuration, or start another store:\n  {lines}"
            )

    def golden_documents(self) -> set[str]:
        """Hashes of the documents that are never trained on; empty before the first ingest."""
        return {document for generation in self.golden_generations() for document in generation.documents}

    def golden_generations(self) -> list[GoldenGeneration]:
        """What became golden together, oldest first: the first batch's share, then what was added."""
        self._complete_set_aside()
        kept, data = self._splits_file(), self._read("golden/documents.json")
        if kept is None or data is None:
            return []
        forgotten = read_forgotten(self.storage)
        first = self._first_generation(kept.first_batch, json.loads(data), forgotten)
        names = (f"golden/added/{name}" for name in self.storage.list("golden/added"))
        added = [found for name in names if (found := self._read_model(GoldenGeneration, name))]
        added = [one.model_copy(update={"batch": forgotten.current(one.batch) or one.batch}) for one in added]
        return [first, *sorted(added, key=lambda one: (one.added_at, one.batch))]

    def _first_generation(self, batch: str, documents: list[str], forgotten: ForgottenList) -> GoldenGeneration:
        """The first batch's share, whatever was forgotten of that batch since."""
        current, replaced = forgotten.current(batch), forgotten.replacements().get(batch)
        founded = replaced.ingested_at if replaced else self.batch(batch).ingested_at
        return GoldenGeneration(batch=current or batch, documents=documents, added_at=founded)

    def add_golden_generation(self, generation: GoldenGeneration) -> bool:
        """Set documents aside for ever, before their batch is written; False when the batch's are there already."""
        return self._create_model(f"golden/added/{generation.batch}.json", generation)

    def anchors(self) -> pl.DataFrame:
        """Responses (columns prompt, response) on which score scales of versions are compared."""
        self._complete_set_aside()
        name = "anchors/responses.parquet"
        if not self.storage.exists(name):
            return pl.DataFrame(schema={"prompt": FEEDBACK["prompt"], "response": pl.String})
        return self._read_frame(name)

    def _splits_file(self) -> SplitsFile | None:
        """``splits.json``; made from the oldest batch where a crash came between its manifest and this file."""
        kept = self._read_model(SplitsFile, "splits.json")
        if kept is not None:
            return kept
        batches = self.batches()
        if not batches:
            return None
        first = batches[0]
        made = SplitsFile(normalization=NORMALIZATION, first_batch=first.digest, splits=first.splits)
        self._create_model("splits.json", made)
        return self._read_model(SplitsFile, "splits.json")  # of several makers one has won

    def _complete_set_aside(self) -> None:
        """Create the golden set and the anchors where missing; the anchors come last and tell that all is there."""
        if self.storage.exists("anchors/responses.parquet"):
            return
        kept = self._splits_file()
        if kept is None:
            return
        first = self.scan_batch(kept.first_batch)
        documents = choose_golden_documents(first.select("document", "sampling").collect(), kept.splits)
        golden = golden_rows(first, documents).collect()
        self.storage.create("golden/records.parquet", _parquet(golden))
        self.storage.create("golden/documents.json", json.dumps(documents, indent=1).encode())
        self.storage.create("anchors/responses.parquet", _parquet(choose_anchors(golden, kept.splits)))

    # Files -----------------------------------------------------------------------------------------------------------
    def _read(self, name: str) -> bytes | None:
        try:
            return self.storage.read(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            place = self.storage.path(name)
            raise BadInputError(f"{place}: cannot be read: {error.strerror or error}; check store.url") from error

    def _read_model(self, model: type[_M], name: str) -> _M | None:
        data = self._read(name)
        try:
            return None if data is None else model.model_validate_json(data)
        except ValidationError as error:
            place = self.storage.path(name)
            raise BadInputError(f"{place}: is not a {model.__name__} of this version of rewardloop: {error}") from error

    def _create_model(self, name: str, model: StoreFile) -> bool:
        return self.storage.create(name, _json(model))

    def _scan(self, name: str) -> pl.LazyFrame:
        data = Path(self.storage.path(name)) if self.storage.is_local else self._read(name)
        if data is None or (isinstance(data, Path) and not data.exists()):
            raise BadInputError(f"{self.storage.path(name)}: is missing; restore it from a copy")
        return pl.scan_parquet(data if isinstance(data, Path) else io.BytesIO(data))

    def _read_frame(self, name: str, columns: list[str] | None = None) -> pl.DataFrame:
        data = self._read(name)
        if data is None:
            raise BadInputError(f"{self.storage.path(name)}: is missing; restore it from a copy")
        try:
            return pl.read_parquet(io.BytesIO(data), columns=columns)
        except pl.exceptions.PolarsError as error:
            raise BadInputError(f"{self.storage.path(name)}: cannot be read: {error}; restore it") from error


def _json(model: StoreFile) -> bytes:
    return (model.model_dump_json(indent=1) + "\n").encode()


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()
