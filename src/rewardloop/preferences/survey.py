"""What one look at a batch of a large corpus tells, before anything is built.

In: FEEDBACK rows. Out: facts that are added up over batches, which documents the rows belong to, and who judged what.
A batch's facts are kept: it never changes.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from rewardloop.kept import Kept, code_fingerprint, key_of
from rewardloop.snapshots import Snapshot, SnapshotBatch

_KIND = "surveys"
_BITS = 15
"""Hexadecimal digits of a hash that make a number of 60 bits."""

COLUMNS = ["content", "sampling", "segment", "labels", "responses"]
"""What ``look`` needs."""


class Facts(BaseModel):
    """Of one batch, or of several."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    rows: int = 0
    verdicts: bool = False
    """Whether there are explicit verdicts on answers sampled at random."""
    ratings: bool = False
    """Whether there are ratings on the criterion."""
    kinds: frozenset[str] = frozenset()
    """Of the criterion's labelers."""
    segments: dict[str, int] = {}
    """Segment -> labels on the criterion."""
    labelers: frozenset[tuple[str, str | None]] = frozenset()
    """Labeler and segment of labels on the criterion."""


def together(parts: Iterable[Facts]) -> Facts:
    """The facts of several batches."""
    found = list(parts)
    segments = sum((Counter(one.segments) for one in found), Counter[str]())
    return Facts(
        rows=sum(one.rows for one in found),
        verdicts=any(one.verdicts for one in found),
        ratings=any(one.ratings for one in found),
        kinds=frozenset().union(*(one.kinds for one in found)),
        segments=dict(sorted(segments.items())),
        labelers=frozenset().union(*(one.labelers for one in found)),
    )


def as_number(column: str) -> pl.Expr:
    """A hash as a number of 60 bits: two of a million are equal once in a million corpora, and then only share work."""
    return pl.col(column).str.head(_BITS).str.to_integer(base=16, dtype=pl.Int64)


def hash_number(digest: str) -> int:
    """The same of one hash."""
    return int(digest[:_BITS], 16)


def look(rows: pl.DataFrame, criterion: str) -> tuple[Facts, pl.DataFrame]:
    """Facts of some rows, and who judged which group: content (a number), labeler, segment, pairs.

    Args:
        rows: ``COLUMNS``.
        criterion: the trained one.
    """
    labels = (
        rows.select("content", "sampling", "segment", "labels", pl.col("responses").list.len().alias("size"))
        .explode("labels")
        .with_columns(pl.col("labels").struct.field(name) for name in ("labeler", "labeler_kind", "criterion", "kind"))
        .drop("labels")
    )
    on = labels.filter(criterion=criterion)
    asked = on.select(
        as_number("content"),
        "labeler",
        "segment",
        (pl.col("size") * (pl.col("size") - 1) / 2).cast(pl.Float32).alias("pairs"),
    ).unique()
    named = asked.filter(pl.col("labeler").is_not_null()).select("labeler", "segment").unique()
    facts = Facts(
        rows=len(rows),
        verdicts=not labels.filter(kind="acceptable", sampling="random").is_empty(),
        ratings=not on.filter(kind="rating").is_empty(),
        kinds=frozenset(on["labeler_kind"].drop_nulls().unique()),
        segments=dict(on.filter(pl.col("segment").is_not_null()).group_by("segment").len().iter_rows()),
        labelers=frozenset(named.iter_rows()),
    )
    return facts, asked.with_columns(pl.col("labeler").cast(pl.Categorical))


def units_of(snapshot: Snapshot, batch: SnapshotBatch) -> pl.Series:
    """The document of each row, as a number; null where there is no prompt, since such texts belong together."""
    none = pl.when(pl.col("prompt").list.len() > 0).then(as_number("document"))
    found = snapshot.scan_batch(batch).select(none.alias("document")).collect()
    return found["document"]


def read_survey(kept: Kept, batch: SnapshotBatch, criterion: str, folder: Path) -> tuple[Facts, pl.Series] | None:
    """Facts and documents of a batch, where they are kept."""
    found = kept.fetch(_KIND, _key(batch, criterion), folder)
    if found is None:
        return None
    return Facts.model_validate_json(found["facts.json"].read_bytes()), pl.read_ipc(found["units.arrow"])["document"]


def keep_survey(kept: Kept, batch: SnapshotBatch, criterion: str, facts: Facts, units: pl.Series, folder: Path) -> None:
    """Keep them."""
    folder.mkdir(parents=True, exist_ok=True)
    units.to_frame("document").write_ipc(folder / "units.arrow", compression="lz4")
    content: dict[str, Any] = {"facts.json": facts.model_dump_json().encode(), "units.arrow": folder / "units.arrow"}
    kept.keep(_KIND, _key(batch, criterion), content, [batch.digest])


def _key(batch: SnapshotBatch, criterion: str) -> str:
    return key_of(content=batch.content, criterion=criterion, code=code_fingerprint("preferences"))
