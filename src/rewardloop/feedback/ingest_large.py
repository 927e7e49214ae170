"""Large files of canonical records become a batch without ever being held in memory.

In: plain files of JSON lines. Out: what ``ingest`` does row by row: the same rows, reasons, counts and digest. Rows lie
in temporary Arrow files, one per piece, until the batch is written; in memory are their hashes and ids.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rewardloop.config import Settings
from rewardloop.feedback.importers.base import Choice, Rejected, Taken
from rewardloop.feedback.pieces import IDENTITY, Piece, PieceResult, Work, asked, cut, lines_of, read_pieces
from rewardloop.feedback.reading import Source
from rewardloop.tables import FEEDBACK

LARGE = 64 << 20
"""Bytes of a file from which on starting processes pays."""
_BOM = b"\xef\xbb\xbf"


@dataclass
class Rows:
    """What was read: rows on disk, their hashes and ids in memory."""

    results: list[PieceResult]
    index: pl.DataFrame
    """record, group_id, identity and source of every taken row, in order."""
    rejected: list[Rejected]
    repeated: int
    skipped: Counter[str] = field(default_factory=Counter)


def is_large(sources: list[Source], choice: Choice) -> bool:
    """Whether every file is a plain one of canonical JSON lines, and all together are large."""
    if choice.importer.name != "canonical" or any(source.path is None or source.columns for source in sources):
        return False
    paths = [source.path for source in sources if source.path is not None]
    return sum(path.stat().st_size for path in paths) >= LARGE and all(_is_lines(path) for path in paths)


def _is_lines(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    return not head.startswith(_BOM) and head.lstrip().startswith(b"{")


def read_large(sources: list[Source], choice: Choice, settings: Settings, key: bytes, folder: Path) -> Rows:
    """Read the files; rows of ids that come with different texts are rejected, as in ``ingest``."""
    work = Work(choice.importer.name, choice.options, settings.validation, key, settings.store.max_row_characters)
    pieces = [
        piece
        for place, source in enumerate(sources)
        if source.path is not None
        for piece in cut(place, source.path, source.name, folder)
    ]
    results = list(read_pieces(pieces, work))
    index = pl.concat(
        [
            pl.read_ipc(result.piece.rows, columns=["record", "group_id", IDENTITY, "place"]).with_columns(
                pl.lit(result.piece.source).alias("source"), pl.lit(place).alias("piece")
            )
            for place, result in enumerate(results)
        ]
    )
    clashes = (
        index.filter(pl.struct("source", "group_id").is_duplicated())
        .filter(pl.col(IDENTITY).n_unique().over("source", "group_id") > 1)
        .select("source", "group_id", "place", "piece")
    )
    rejected: list[Rejected] = []
    for place in range(len(sources)):
        rejected += [one for result in results if result.piece.source == place for one in result.rejected]
        rejected += _clashing(clashes.filter(source=place), results, work)
    kept = index.drop("place").with_columns(
        (
            ~pl.struct("source", "group_id").is_in(
                clashes.select(pl.struct("source", "group_id")).to_series().implode()
            )
        ).alias("kept")
        if len(clashes)
        else pl.lit(True).alias("kept")
    )
    return Rows(
        results,
        kept,
        rejected,
        sum(result.repeated for result in results),
        sum((result.skipped for result in results), Counter()),
    )


def _clashing(clashes: pl.DataFrame, results: list[PieceResult], work: Work) -> Iterator[Rejected]:
    """The rows of ids with several contents, read again: they are few, and what they held is not kept otherwise."""
    places = {
        str(group_id): list(found)
        for group_id, found in clashes.group_by("group_id", maintain_order=True).agg("place").iter_rows()
    }
    raw: dict[str, Taken] = {}
    for piece in clashes["piece"].unique().sort():
        raw |= _rows_at(results[piece].piece, set(clashes.filter(piece=piece)["place"]), work)
    for group_id, found in places.items():
        listed = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        for place in found:
            yield Rejected(raw[place].rows[0], f"id {group_id!r} comes with different texts at {listed}")


def _rows_at(piece: Piece, places: set[str], work: Work) -> dict[str, Taken]:
    found: dict[str, Taken] = {}
    for number, line in lines_of(piece):
        place = f"{piece.name}:{number}"
        if place in places:
            (outcome,) = asked(place, line, work)
            assert isinstance(outcome, Taken)
            found[place] = outcome
    return found


def keep_new(rows: Rows, known: pl.Series) -> pl.DataFrame:
    """The index of the rows that are new: the first of equal ones, none that the store has."""
    kept = rows.index.with_columns(pl.int_range(pl.len()).over("piece").alias("at")).filter("kept")
    return kept.filter(pl.col("record").is_first_distinct() & ~pl.col("record").is_in(known.implode()))


def write_rows(rows: Rows, new: pl.DataFrame, target: Path) -> tuple[int, int | None]:
    """Write the new rows as one Parquet file.

    Returns:
        Labels, and distinct labelers (None where nobody has an identity).
    """
    labels, labelers = 0, pl.Series(dtype=pl.String)
    places = {int(piece): part["at"] for (piece,), part in new.partition_by("piece", as_dict=True).items()}
    parts = []
    for place, result in enumerate(rows.results):
        mine = places.get(place)
        if mine is None:
            continue
        frame = pl.read_ipc(result.piece.rows, columns=FEEDBACK.names())
        if len(mine) < len(frame):
            frame = frame[mine]
            frame.write_ipc(result.piece.rows, compression="lz4")
        given = frame.select(pl.col("labels").explode()).to_series().struct.field("labeler")
        labels += len(given)
        labelers = pl.concat([labelers, given.drop_nulls().unique()]).unique()
        parts.append(pl.scan_ipc(result.piece.rows).select(FEEDBACK.names()))
    pl.concat(parts).sink_parquet(target, compression_level=1, row_group_size=_ROW_GROUP)
    return labels, len(labelers) or None


_ROW_GROUP = 1 << 15
"""Rows that are decoded at a time by whoever reads the batch."""


def temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Where rows lie meanwhile; gone when the ingest ends."""
    return tempfile.TemporaryDirectory(prefix="rewardloop-ingest-")
