"""Which rows of a large corpus are built together: parts that stay what they are when another batch comes.

In: the batches, and the document of each row. Out: parts. Batches are bundled with their neighbours in time, so that
each bundle has some tens of thousands of rows, and where one ends follows from the batches themselves; a bundle is cut
into parts by a hash of the documents. So a new batch changes the last bundle and no other. Documents with rows in
several bundles are built apart, from all of these rows, and are hidden in the parts of the bundles. Texts without
prompt are one part, since they are compared with each other. All of it follows from the corpus, not from earlier runs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from rewardloop.kept import key_of
from rewardloop.snapshots import SnapshotBatch

_PREFIX = 1 << 44
"""Leaves 16 of a document's 60 bits."""
_MOST_PARTS = 2
_MOST_SHARED = 0.25
"""Share of a part's rows that may be built twice; beyond it the whole part is built with the shared documents."""


class Part(NamedTuple):
    """Some rows; ``rows_key`` names them."""

    name: str
    batches: tuple[int, ...]
    """Places of the batches that they may come from."""
    rows: int
    rows_key: str
    hidden: pl.Series
    """Documents (numbers) that another part has all rows of."""
    hidden_rows: int
    golden: str
    """Names the golden documents among its own."""


@dataclass(frozen=True)
class Plan:
    """The parts in their order, and where rows go: for each batch and row the number of a part, null for none."""

    parts: tuple[Part, ...]
    own: tuple[pl.Series, ...]
    shared: tuple[pl.Series, ...]


def bundles(batches: Sequence[SnapshotBatch], part: int) -> list[list[int]]:
    """Neighbours in time that are built together, as places of batches.

    A bundle ends after a batch with the probability (rows of the batch) / ``part``, as its digest decides, so that
    bundles have ``part`` rows on average, at most about twice as many, and what comes or goes at either end moves few
    others. A batch of that size stands alone.
    """
    found: list[list[int]] = [[]]
    for place, batch in enumerate(batches):
        if batch.count >= part and found[-1]:
            found.append([])
        found[-1].append(place)
        chance = int(hashlib.sha256(batch.content.encode()).hexdigest()[:8], 16) / 16**8
        if chance < batch.count / part or sum(batches[one].count for one in found[-1]) >= _MOST_PARTS * part:
            found.append([])
    return [bundle for bundle in found if bundle]


def plan_parts(batches: Sequence[SnapshotBatch], units: Sequence[pl.Series], golden: frozenset[int], part: int) -> Plan:
    """Cut a corpus into parts.

    Args:
        batches: of the snapshot, oldest first.
        units: the document (a number) of each row of each batch; null without prompt.
        golden: documents that are never trained on.
        part: rows of a part.
    """
    bundled = bundles(batches, part)
    bundle_of = {place: number for number, places in enumerate(bundled) for place in places}
    rows = pl.concat(
        [
            pl.DataFrame({"document": unit}).select(
                pl.lit(place, pl.Int32).alias("batch"),
                pl.lit(bundle_of[place], pl.Int32).alias("bundle"),
                "document",
                pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
            )
            for place, unit in enumerate(units)
        ]
    ).with_row_index("place")
    prompted = _bucketed(rows.filter(pl.col("document").is_not_null()), part)
    buckets = (
        prompted.group_by("bundle", "bucket", "buckets")
        .agg(pl.len().alias("rows"), pl.col("is_shared").sum().alias("shared"))
        .sort("bundle", "bucket")
        .with_columns((pl.col("shared") > _MOST_SHARED * pl.col("rows")).alias("is_pooled"))
    )
    prompted = prompted.join(
        buckets.select("bundle", "bucket", "is_pooled"), on=["bundle", "bucket"], maintain_order="left"
    )
    parts: list[Part] = []
    texts = rows.filter(pl.col("document").is_null())
    if len(texts):
        parts.append(_texts(texts, batches, golden))
    own: list[pl.DataFrame] = [texts.select("place", pl.lit(0, pl.Int32).alias("part"))]
    single = prompted.filter(~pl.col("is_pooled"))
    known = buckets.filter(~pl.col("is_pooled")).with_row_index("number", len(parts))
    single = single.join(known.select("bundle", "bucket", "number"), on=["bundle", "bucket"], maintain_order="left")
    own.append(single.select("place", pl.col("number").cast(pl.Int32).alias("part")))
    hidden = single.filter("is_shared")
    named = single.filter(pl.col("document").is_in(list(golden)))
    for bundle, bucket, total, count, number in known.select(
        "bundle", "bucket", "buckets", "rows", "number"
    ).iter_rows():
        places = bundled[bundle]
        gone = hidden.filter(number=number)["document"]
        contents = [batches[place].content for place in places]
        parts.append(
            Part(
                name=f"{bundle:06d}-{bucket:06d}",
                batches=tuple(places),
                rows=count,
                rows_key=key_of(contents=contents, bucket=bucket, buckets=total),
                hidden=gone.unique().sort(),
                hidden_rows=len(gone),
                golden=_golden(named.filter(number=number)["document"]),
            )
        )
    pool = _pool(prompted, batches, golden, part, parts)
    return Plan(tuple(parts), _by_batch(pl.concat(own), rows), _by_batch(pool, rows))


def _bucketed(rows: pl.DataFrame, part: int) -> pl.DataFrame:
    """``rows`` with ``bucket`` of ``buckets`` of their bundle, and ``is_shared``: their document is in several."""
    spread = (
        rows.group_by("document")
        .agg(pl.col("bundle").min().alias("low"), pl.col("bundle").max().alias("high"))
        .filter(pl.col("low") < pl.col("high"))["document"]
    )
    buckets = (pl.len().over("bundle") + part - 1) // part
    return rows.with_columns(buckets.cast(pl.Int64).alias("buckets")).with_columns(
        (pl.col("document") // _PREFIX * pl.col("buckets") // 65_536).alias("bucket"),
        pl.col("document").is_in(spread.implode()).alias("is_shared"),
    )


def _pool(
    rows: pl.DataFrame, batches: Sequence[SnapshotBatch], golden: frozenset[int], part: int, parts: list[Part]
) -> pl.DataFrame:
    """Add the parts of shared documents; gives place and part of their rows."""
    pool = rows.filter(pl.col("is_shared") | pl.col("is_pooled"))
    count = -(-len(pool) // part)
    pool = pool.with_columns(
        (pl.col("document") // _PREFIX * count // 65_536 + len(parts)).cast(pl.Int32).alias("part")
    )
    for (number,), mine in sorted(pool.partition_by("part", as_dict=True).items(), key=lambda one: int(str(one[0][0]))):
        named = hashlib.sha256()
        places = mine["batch"].unique().sort().to_list()
        for place in places:
            named.update(batches[place].content.encode() + mine.filter(batch=place)["row"].to_numpy().tobytes())
        parts.append(
            Part(
                name=f"shared-{number}",
                batches=tuple(places),
                rows=len(mine),
                rows_key=named.hexdigest(),
                hidden=pl.Series(dtype=pl.Int64),
                hidden_rows=0,
                golden=_golden(mine.filter(pl.col("document").is_in(list(golden)))["document"]),
            )
        )
    return pool.select("place", "part")


def _texts(rows: pl.DataFrame, batches: Sequence[SnapshotBatch], golden: frozenset[int]) -> Part:
    places = rows["batch"].unique().sort().to_list()
    return Part(
        name="texts",
        batches=tuple(places),
        rows=len(rows),
        rows_key=key_of(texts=[batches[place].content for place in places]),
        hidden=pl.Series(dtype=pl.Int64),
        hidden_rows=0,
        golden=_golden(pl.Series(sorted(golden), dtype=pl.Int64)),
    )


def _golden(documents: pl.Series) -> str:
    return hashlib.sha256(documents.unique().sort().to_numpy().tobytes()).hexdigest()


def _by_batch(dealt: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.Series, ...]:
    """One series per batch, with a part for each of its rows."""
    whole = rows.select("batch", "place").join(dealt, on="place", how="left", maintain_order="left")
    return tuple(mine["part"] for mine in whole.partition_by("batch", maintain_order=True))
