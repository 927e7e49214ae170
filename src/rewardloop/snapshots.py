"""The rows of a corpus as they travel between steps: one file per batch, and what of it counts.

In: files of batches. Out: a folder with ``snapshot.json`` and ``records/``, whose files are the store's own (hard links
or copies), never rewritten: rows that a step leaves out are listed by number. The folder can be moved and needs nothing
else; whoever reads it through here sees the FEEDBACK columns, ``batch`` and, in a window that decays, ``weight``.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rewardloop.errors import BadInputError
from rewardloop.tables import FEEDBACK
from rewardloop.transfer import file_digest, link

NAME = "snapshot.json"
RECORDS = "records"


class SnapshotBatch(BaseModel):
    """One batch; ``rows``: all rows of the file; ``without``: numbers of those that do not count, ascending."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    digest: str
    file: str
    """Path in the folder."""
    sha256: str
    """Of the file."""
    rows: int
    without: list[int] = Field(default_factory=list)
    ingested_at: datetime

    @property
    def count(self) -> int:
        """Rows that count."""
        return self.rows - len(self.without)

    @property
    def content(self) -> str:
        """Names the rows that count, whatever else is in the corpus: the digest, or a digest of it and the others."""
        if not self.without:
            return self.digest
        return hashlib.sha256(f"{self.digest} without {self.without}".encode()).hexdigest()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1] = 1
    half_life_days: float | None = None
    batches: list[SnapshotBatch]


@dataclass(frozen=True)
class Snapshot:
    """A corpus in a folder; batches oldest first."""

    folder: Path
    batches: tuple[SnapshotBatch, ...]
    half_life_days: float | None = None

    @property
    def count(self) -> int:
        """Rows that count, of all batches."""
        return sum(batch.count for batch in self.batches)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum((self.folder / batch.file).stat().st_size for batch in self.batches)

    def weights(self, batches: Sequence[SnapshotBatch] | None = None) -> dict[str, float]:
        """Digest -> what a label of the batch weighs beside the newest of ``batches`` (of all); 1 without decay."""
        chosen = self.batches if batches is None else batches
        return decay({batch.digest: batch.ingested_at for batch in chosen}, self.half_life_days)

    def check(self, batch: SnapshotBatch) -> None:
        """Raise BadInputError where the file is not the one that was written: nothing made of it may be kept."""
        if file_digest(self.folder / batch.file) != batch.sha256:
            raise BadInputError(
                f"{self.folder / batch.file}: was changed since it was written; run the step again that made "
                f"{self.folder}"
            )

    def scan(self) -> pl.LazyFrame:
        """All rows that count, batch by batch, in their order."""
        weights = self.weights()
        return pl.concat([self._named(self.scan_batch(batch), batch, weights) for batch in self.batches])

    def scan_batch(self, batch: SnapshotBatch) -> pl.LazyFrame:
        """FEEDBACK rows of one batch that count."""
        rows = pl.scan_parquet(self.folder / batch.file)
        if not batch.without:
            return rows
        gone = pl.LazyFrame({"row": batch.without}, schema={"row": pl.UInt32})
        numbered = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.UInt32))
        return numbered.join(gone, on="row", how="anti", maintain_order="left").drop("row")

    def slices(
        self, batch: SnapshotBatch, rows: int, columns: Sequence[str] = ()
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Rows of one batch that count, from at most ``rows`` of the file at a time.

        Yields:
            the place of the first row among those that count, and the rows (of all columns, or of ``columns``).
        """
        gone = pl.Series(batch.without, dtype=pl.Int64)
        start = 0
        for at in range(0, batch.rows, rows):
            part = pl.scan_parquet(self.folder / batch.file).slice(at, rows)
            found = (part.select(columns) if columns else part).collect()
            here = gone.filter(gone.is_between(at, at + len(found) - 1)) - at
            if len(here):
                found = found.filter(~pl.int_range(len(found), eager=True).is_in(here.implode()))
            yield start, found
            start += len(found)

    def _named(self, rows: pl.LazyFrame, batch: SnapshotBatch, weights: dict[str, float]) -> pl.LazyFrame:
        named = rows.with_columns(pl.lit(batch.digest).alias("batch"))
        if self.half_life_days is None:
            return named
        return named.with_columns(pl.lit(weights[batch.digest]).alias("weight"))


def decay(times: dict[str, datetime], half_life_days: float | None) -> dict[str, float]:
    """Name -> 0.5 ** (age beside the newest / half-life); 1 for all without decay."""
    if half_life_days is None or not times:
        return dict.fromkeys(times, 1.0)
    newest = max(times.values())
    return {name: 0.5 ** ((newest - at) / timedelta(days=half_life_days)) for name, at in times.items()}


def file_of(place: int, digest: str) -> str:
    """Path of a batch's file in the folder of a snapshot."""
    return f"{RECORDS}/{place:06d}-{digest[:12]}.parquet"


def write_snapshot(folder: Path, batches: Sequence[SnapshotBatch], half_life_days: float | None) -> Snapshot:
    """Make a snapshot of the files that lie in ``folder`` already; files of another one that was there go."""
    for path in set((folder / RECORDS).glob("*.parquet")) - {folder / batch.file for batch in batches}:
        path.unlink()
    made = Snapshot(folder, tuple(batches), half_life_days)
    content = _File(half_life_days=half_life_days, batches=list(batches))
    (folder / NAME).write_text(content.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return made


def hand_on(source: Snapshot, folder: Path, without: dict[str, list[int]]) -> Snapshot:
    """The same snapshot in another folder, with fewer rows.

    Args:
        source: where the files are.
        folder: of the new snapshot.
        without: digest -> numbers, among the rows that count, of those to leave out. A batch of which nothing is left
            is no part of the new snapshot.
    """
    batches: list[SnapshotBatch] = []
    for batch in source.batches:
        gone = set(batch.without)
        more = without.get(batch.digest, [])
        if more:
            counted = [row for row in range(batch.rows) if row not in gone] if gone else range(batch.rows)
            gone.update(counted[number] for number in more)
        if len(gone) == batch.rows:
            continue
        file = file_of(len(batches), batch.digest)
        link(source.folder / batch.file, folder / file)
        batches.append(batch.model_copy(update={"file": file, "without": sorted(gone)}))
    return write_snapshot(folder, batches, source.half_life_days)


def read_snapshot(folder: Path) -> Snapshot:
    """The snapshot in ``folder``.

    Raises:
        BadInputError: there is none, or it is not whole.
    """
    try:
        found = _File.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{folder / NAME}: is no snapshot of a corpus: {error}; run load_corpus again") from error
    for batch in found.batches:
        if not (folder / batch.file).is_file():
            raise BadInputError(f"{folder / batch.file}: is missing; run the step again that made {folder}")
    return Snapshot(folder, tuple(found.batches), found.half_life_days)


def write_rows(folder: Path, rows: pl.DataFrame, ingested_at: datetime) -> Snapshot:
    """A snapshot of rows that come from no store: FEEDBACK columns and ``batch``, all of one age."""
    batches = []
    for place, ((digest,), mine) in enumerate(rows.partition_by("batch", as_dict=True, maintain_order=True).items()):
        file = file_of(place, str(digest))
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        mine.select(FEEDBACK.names()).write_parquet(folder / file)
        about = {"digest": str(digest), "file": file, "sha256": file_digest(folder / file), "rows": len(mine)}
        batches.append(SnapshotBatch.model_validate(about | {"ingested_at": ingested_at}))
    return write_snapshot(folder, batches, None)
