"""Rows of files become the records of a batch, or have a reason why not.

In: the outcomes of an importer, or large files of canonical records. Out: a ``Read``: new records, and every row that
gave none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rewardloop.config import Settings, ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Choice, Outcome, Rejected, Repeated, Row, Skipped, Taken, length_problem
from rewardloop.feedback.ingest_large import keep_new, read_large, write_rows
from rewardloop.feedback.pseudonyms import pseudonymized
from rewardloop.feedback.reading import Source
from rewardloop.feedback.store import FeedbackStore
from rewardloop.tables import canonical_json, feedback_frame

_SHOWN_REASONS = 5
_MOST_REJECTED = 1_000_000
"""Rows with a reason that are held: some hundred megabytes, where a few bytes of a file can be a row."""


@dataclass(frozen=True)
class Read:
    """What was read. ``records`` are the new ones; ``judged`` counts rows in which somebody judged something."""

    records: pl.Series
    rows_taken: int
    judged: int
    labels: int
    labelers: int | None
    rejected: list[Rejected]
    skipped: Mapping[str, int]
    rows: pl.DataFrame | Path
    """``FEEDBACK`` rows, or a Parquet file of them."""
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_rows(
    outcomes: Iterable[Iterable[Outcome]], settings: Settings, store: FeedbackStore, key: bytes, *, votes: bool = False
) -> Read:
    """Row by row, from the outcomes of each file.

    Args:
        outcomes: of the importer, file by file.
        settings, store, key: as of ``ingest``.
        votes: equal groups of a file whose labelers have no identity are several people's (``Importer.votes``).

    Raises:
        BadInputError: more of them than ``validation.max_failed_share`` cannot be used.
    """
    found = _Sorted()
    for of_file in outcomes:
        _sort(of_file, settings.validation, found, votes=votes)
    judged = sum(len(taken.rows) for taken in found.taken) + len(found.rejected) + found.repeated
    _check_share(found.rejected, judged, settings.validation.max_failed_share)
    frame = feedback_frame((taken.rows[0].place, pseudonymized(taken.group, key)) for taken in found.taken)
    sizes = pl.Series([len(taken.rows) for taken in found.taken], dtype=pl.Int64)
    new = frame["record"].is_first_distinct() & ~frame["record"].is_in(store.known_records().implode())
    left_out = Counter(
        reason for taken, kept in zip(found.taken, new, strict=True) if kept for reason in taken.left_out
    )
    frame = frame.filter(new)
    return Read(
        records=frame["record"],
        rows_taken=int(sizes.filter(new).sum()),
        judged=judged,
        labels=int(frame["labels"].list.len().sum()),
        labelers=_labelers(frame),
        rejected=found.rejected,
        skipped=found.skipped,
        rows=frame,
        left_out=left_out,
    )


def read_canonical(
    sources: list[Source], choice: Choice, settings: Settings, store: FeedbackStore, key: bytes, folder: Path
) -> Read:
    """The same of large files of canonical records, out of memory; ``folder`` takes what is kept meanwhile.

    Raises:
        BadInputError: as ``read_rows``.
    """
    found = read_large(sources, choice, settings, key, folder)
    judged = int(found.index["kept"].sum()) + len(found.rejected) + found.repeated
    _check_share(found.rejected, judged, settings.validation.max_failed_share)
    new = keep_new(found, store.known_records())
    target = folder / "records.parquet"
    labels, labelers = write_rows(found, new, target) if len(new) else (0, None)
    return Read(
        records=new["record"],
        rows_taken=len(new),
        judged=judged,
        labels=labels,
        labelers=labelers,
        rejected=found.rejected,
        skipped=found.skipped,
        rows=target,
    )


def first_reasons(rejected: list[Rejected]) -> list[str]:
    """The first of them, with their places."""
    return [f"{one.row.place}: {one.reason}" for one in rejected[:_SHOWN_REASONS]]


@dataclass
class _Sorted:
    """Outcomes sorted; rows are counted, not groups."""

    taken: list[Taken] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    repeated: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def _sort(outcomes: Iterable[Outcome], limits: ValidationSettings, found: _Sorted, *, votes: bool) -> None:
    """Add the outcomes of one file to ``found``; groups out of limits and ids with several contents are rejected."""
    by_id: dict[str, list[Taken]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            found.rejected.append(outcome)
            if len(found.rejected) > _MOST_REJECTED:
                reasons = "\n  ".join(first_reasons(found.rejected))
                raise BadInputError(
                    f"more than {_MOST_REJECTED:,} rows cannot be used. Nothing was stored. Correct them, or split the "
                    f"files:\n  {reasons}"
                )
        elif isinstance(outcome, Repeated):
            found.repeated += 1
        elif isinstance(outcome, Skipped):
            found.skipped[outcome.reason] += 1
        else:
            problem = length_problem(outcome.group.prompt, outcome.group.responses, limits)
            if problem:
                found.rejected += [Rejected(row, problem) for row in outcome.rows]
            else:
                by_id.setdefault(outcome.group.group_id, []).append(outcome)
    for group_id, same_id in by_id.items():
        contents = {(taken.group.prompt, taken.group.responses) for taken in same_id}
        if len(contents) == 1:
            found.taken += _joined(same_id) if votes else same_id
        else:
            rows: list[Row] = [row for taken in same_id for row in taken.rows]
            places = ", ".join(row.place for row in rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
            found.rejected += [Rejected(row, f"id {group_id!r} comes with different texts at {places}") for row in rows]


def _joined(same_id: list[Taken]) -> list[Taken]:
    """Equal votes of people without an identity as one group with all their labels.

    As records they would be one and the same, and be counted once. Together they are one record that is the same
    whenever the file is read.
    """
    joined: dict[object, list[Taken]] = {}
    for place, taken in enumerate(same_id):
        anonymous = all(label.labeler is None for label in taken.group.labels)
        joined.setdefault(canonical_json(taken.group) if anonymous and len(same_id) > 1 else place, []).append(taken)
    return [_with_all_labels(equal) if len(equal) > 1 else equal[0] for equal in joined.values()]


def _with_all_labels(equal: list[Taken]) -> Taken:
    return Taken(
        equal[0].group.model_copy(update={"labels": tuple(label for one in equal for label in one.group.labels)}),
        tuple(row for one in equal for row in one.rows),
        tuple(reason for one in equal for reason in one.left_out),
    )


def _check_share(rejected: list[Rejected], rows_in: int, limit: float) -> None:
    if len(rejected) <= limit * rows_in:
        return
    reasons = "\n  ".join(first_reasons(rejected))
    more = f"\n  and {len(rejected) - _SHOWN_REASONS:,} more" if len(rejected) > _SHOWN_REASONS else ""
    raise BadInputError(
        f"{len(rejected):,} of {rows_in:,} rows ({len(rejected) / rows_in:.1%}) cannot be used; at most {limit:.1%} "
        f"may fail (validation.max_failed_share). Nothing was stored. Correct the rows, or the columns and options:"
        f"\n  {reasons}{more}"
    )


def _labelers(frame: pl.DataFrame) -> int | None:
    labels = frame.select(pl.col("labels").explode()).unnest("labels")
    return labels["labeler"].drop_nulls().n_unique() or None
