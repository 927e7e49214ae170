"""A large file of canonical records, read piece by piece in several processes.

In: a plain file of JSON lines. Out: per piece an Arrow file of ``FEEDBACK`` rows and what was not taken. Lines that are
beyond doubt (``plain_records``) never become objects; any other line goes to the importer itself.
"""

import functools
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import polars as pl

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Options,
    Outcome,
    Rejected,
    Repeated,
    Skipped,
    Taken,
    importers,
    length_problem,
)
from rewardloop.feedback.importers.rows import Record, rows_of
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.plain_records import plain_record
from rewardloop.feedback.pseudonyms import pseudonym, pseudonymized
from rewardloop.feedback.reading import Source
from rewardloop.records import text_digest
from rewardloop.tables import FeedbackColumns

IDENTITY = "identity"
"""Column beside those of ``FEEDBACK``: what must be equal where ids are."""
PIECE = 16 << 20
"""Of one piece: some thousands of records, so that memory stays flat and processes end together."""


class Piece(NamedTuple):
    """Bytes ``start`` to ``end`` of a file, whole lines; ``first`` is the number of the first line."""

    source: int
    path: Path
    name: str
    start: int
    end: int
    first: int
    rows: Path
    """Where its rows go."""


class Work(NamedTuple):
    """What every piece is read with."""

    importer: str
    options: Options
    limits: ValidationSettings
    key: bytes
    max_row: int


@dataclass
class PieceResult:
    """What became of a piece's lines; the rows that were taken lie in its file."""

    piece: Piece
    taken: int
    rejected: list[Rejected] = field(default_factory=list)
    repeated: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def cut(source: int, path: Path, name: str, folder: Path) -> Iterator[Piece]:
    """Pieces of about ``PIECE`` bytes."""
    start, first = 0, 1
    with path.open("rb") as stream:
        while block := stream.read(PIECE):
            block += stream.readline()
            yield Piece(
                source, path, name, start, start + len(block), first, folder / f"{source:04d}-{start:016d}.arrow"
            )
            start += len(block)
            first += block.count(b"\n")


def read_pieces(pieces: list[Piece], work: Work) -> Iterator[PieceResult]:
    """Results in the order of the pieces; as many processes as there are processors."""
    processes = min(
        len(pieces), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if processes < 2:
        yield from (read_piece(piece, work) for piece in pieces)
        return
    # Not forked: this process has threads of polars.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(functools.partial(read_piece, work=work), pieces)


def read_piece(piece: Piece, work: Work) -> PieceResult:
    """Read one piece and write its rows."""
    result = PieceResult(piece, 0)
    columns, identities = FeedbackColumns(), []
    name_of = functools.cache(functools.partial(pseudonym, work.key))
    for number, line in lines_of(piece):
        if not line.strip():
            continue
        place = f"{piece.name}:{number}"
        # An escape of half a surrogate pair is what the importer's own reader looks for.
        doubtful = len(line) > work.max_row or "\\ud" in line or "\\uD" in line
        values = None if doubtful else _parsed(line)
        tree = plain_record(values, work.limits, name_of) if values is not None else None
        if tree is not None:
            columns.add(place, tree, None)
            identities.append(_identity(tree))
            continue
        for outcome in asked(place, line, work):
            if isinstance(outcome, Taken) and (
                problem := length_problem(outcome.group.prompt, outcome.group.responses, work.limits)
            ):
                outcome = Rejected(outcome.rows[0], problem)
            if isinstance(outcome, Taken):
                group = pseudonymized(outcome.group, work.key)
                tree = group.model_dump(mode="json", by_alias=True, exclude_none=True)
                columns.add(place, tree, group.labeled_at.isoformat() if group.labeled_at else None)
                identities.append(_identity(tree))
            elif isinstance(outcome, Rejected):
                result.rejected.append(outcome)
            elif isinstance(outcome, Repeated):
                result.repeated += 1
            elif isinstance(outcome, Skipped):
                result.skipped[outcome.reason] += 1
    result.taken = len(columns)
    columns.frame().with_columns(pl.Series(IDENTITY, identities, dtype=pl.UInt64)).write_ipc(
        piece.rows, compression="lz4"
    )
    return result


def lines_of(piece: Piece) -> Iterator[tuple[int, str]]:
    """Number and text of each line."""
    with piece.path.open("rb") as stream:
        stream.seek(piece.start)
        text = stream.read(piece.end - piece.start).decode()
    yield from enumerate(text.split("\n"), start=piece.first)


def asked(place: str, line: str, work: Work) -> Iterator[Outcome]:
    """What the importer says of one line."""
    source = Source(place, line, "", max_row=work.max_row)
    rows = (_at(place, row) for row in rows_of(source, "json-lines"))
    yield from importers()[work.importer].read(cast(Table, _Rows(rows)), work.options, work.limits)


def _at(place: str, row: Record | Rejected) -> Record | Rejected:
    if isinstance(row, Record):
        return replace(row, place=place)
    return replace(row, row=replace(row.row, place=place))


class _Rows:
    """All that the importer of canonical records asks a table for."""

    def __init__(self, rows: Iterator[Record | Rejected]) -> None:
        self._rows = rows

    def rows(self) -> Iterator[Record | Rejected]:
        return self._rows


def _parsed(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice")
    return values


def _identity(tree: dict[str, Any]) -> int:
    parts = json.dumps(
        [tree["prompt"], [[one["response_id"], one["content"], one.get("model")] for one in tree["responses"]]]
    )
    return int(text_digest(parts)[:16], 16)
