"""Files of feedback become one immutable batch of the store.

In: paths in any known format. Out: a committed batch, or nothing at all. Every row of the files is taken, quarantined
with its reason, or counted as a duplicate or as one in which nobody judged anything. Labeler ids are replaced by
pseudonyms before anything is written.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from tqdm import tqdm

from rewardloop import __version__
from rewardloop.config import Settings, ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import (
    Choice,
    Outcome,
    Rejected,
    Repeated,
    Row,
    Skipped,
    Taken,
    choose,
    length_problem,
)
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.importers.whole import tables_of
from rewardloop.feedback.ingest_large import is_large, keep_new, read_large, temporary_folder, write_rows
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.protection import Protection
from rewardloop.feedback.pseudonyms import key_fingerprint, pseudonymized, pseudonymized_row
from rewardloop.feedback.reading import Source, read_sources
from rewardloop.feedback.store import BatchManifest, FeedbackStore, SourceFile, batch_digest, records_digest
from rewardloop.tables import feedback_frame

_SHOWN_REASONS = 5
_T = TypeVar("_T")


@dataclass
class _Sorted:
    """Outcomes sorted; rows are counted, not groups."""

    taken: list[Taken] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    repeated: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def ingest(
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
) -> IngestReport:
    """Read the files, check every row, and commit what is new as one batch.

    Args:
        paths: plain, gzip or zip files.
        store: where the batch goes.
        settings: ``validation`` has the limits, ``splits`` what a new store is founded with.
        key: secret of the labelers' pseudonyms.
        format: an importer's name, or ``auto``: by content.
        options: the importer's options as text.
        columns: the importer's columns: what it calls a column -> its name in the files.
        say: told in a sentence which importer was taken and why.
        progress: show a bar on stderr when it takes longer than two seconds.

    Raises:
        BadInputError: unusable files, formats, options or split settings, another labeler key than before, or a larger
            share of unusable rows than ``validation.max_failed_share``. Nothing is written then.
    """
    store.check_splits(settings.splits)
    sources = read_sources(paths, limit=settings.store.max_read_bytes, max_row=settings.store.max_row_characters)
    tables = tables_of(sources, format, store.storage)
    choice = choose(tables, format, options or {}, columns or {})
    say(f"{', '.join(path.name for path in paths)}: format {choice.importer.name} ({choice.reason})")

    earlier = _ingested_before(store, sources, choice, key)
    if earlier:
        return earlier
    protection = Protection.of(store.storage, settings.privacy, key)
    with temporary_folder() as folder:
        if protection.is_idle and is_large(sources, choice):
            read = _read_large(sources, choice, settings, store, key, Path(folder))
        else:
            outcomes = (
                _bar(protection.over(choice.importer.read(table, choice.options, settings.validation)), table, progress)
                for table in tables
            )
            read = _read_rows(outcomes, settings, store, key)
        return _commit(read, sources, choice, settings, store, key, protection)


@dataclass(frozen=True)
class _Read:
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


def _read_rows(outcomes: Iterable[Iterable[Outcome]], settings: Settings, store: FeedbackStore, key: bytes) -> _Read:
    """Row by row, from the outcomes of each file."""
    found = _Sorted()
    for of_file in outcomes:
        _sort(of_file, settings.validation, found)
    judged = sum(len(taken.rows) for taken in found.taken) + len(found.rejected) + found.repeated
    _check_share(found.rejected, judged, settings.validation.max_failed_share)
    frame = feedback_frame((taken.rows[0].place, pseudonymized(taken.group, key)) for taken in found.taken)
    sizes = pl.Series([len(taken.rows) for taken in found.taken], dtype=pl.Int64)
    new = frame["record"].is_first_distinct() & ~frame["record"].is_in(store.known_records().implode())
    frame = frame.filter(new)
    return _Read(
        records=frame["record"],
        rows_taken=int(sizes.filter(new).sum()),
        judged=judged,
        labels=int(frame["labels"].list.len().sum()),
        labelers=_labelers(frame),
        rejected=found.rejected,
        skipped=found.skipped,
        rows=frame,
        left_out=found.left_out,
    )


def _read_large(
    sources: list[Source], choice: Choice, settings: Settings, store: FeedbackStore, key: bytes, folder: Path
) -> _Read:
    """The same of large files of canonical records, out of memory."""
    found = read_large(sources, choice, settings, key, folder)
    judged = int(found.index["kept"].sum()) + len(found.rejected) + found.repeated
    _check_share(found.rejected, judged, settings.validation.max_failed_share)
    new = keep_new(found, store.known_records())
    target = folder / "records.parquet"
    labels, labelers = write_rows(found, new, target) if len(new) else (0, None)
    return _Read(
        records=new["record"],
        rows_taken=len(new),
        judged=judged,
        labels=labels,
        labelers=labelers,
        rejected=found.rejected,
        skipped=found.skipped,
        rows=target,
    )


def _commit(
    read: _Read,
    sources: list[Source],
    choice: Choice,
    settings: Settings,
    store: FeedbackStore,
    key: bytes,
    protection: Protection,
) -> IngestReport:
    """Quarantine what was rejected, and write the rest as one batch."""
    rows_in = read.judged + sum(read.skipped.values())
    quarantined = [_quarantined(rejected, key) for rejected in read.rejected]
    if read.records.is_empty():
        if quarantined:  # no batch to file them under: the files they came in name the place
            store.quarantine(batch_digest([source.sha256 for source in sources]), "rows", quarantined)
        return _nothing_new(choice, rows_in, read.rejected, read.skipped)
    digest = records_digest(read.records)
    check_refused(store, digest)
    report = IngestReport(
        digest=digest,
        importer=choice.importer.name,
        importer_reason=choice.reason,
        rows_in=rows_in,
        rows_taken=read.rows_taken,
        rows_quarantined=len(read.rejected),
        rows_duplicate=read.judged - read.rows_taken - len(read.rejected),
        groups=len(read.records),
        labels=read.labels,
        labelers=read.labelers,
        reasons=[_reason(rejected) for rejected in read.rejected[:_SHOWN_REASONS]],
        skipped=dict(read.skipped),
        left_out=dict(read.left_out),
        redacted=dict(protection.redacted),
        labels_forgotten=protection.labels,
    )
    manifest = _manifest(report, digest, choice, sources, settings, key, protection)
    check_key(store, manifest)
    if quarantined:
        store.quarantine(digest, "rows", quarantined)
    if not store.write_batch(read.rows, manifest):
        # Another ingest of the same rows has committed them since this one looked.
        return _nothing_new(choice, rows_in, read.rejected, read.skipped)
    return report


def _ingested_before(store: FeedbackStore, sources: list[Source], choice: Choice, key: bytes) -> IngestReport | None:
    """The report for the very files of a batch that took all their rows: what is known need not be read again."""
    options = choice.options.model_dump(mode="json")
    digests = {source.sha256 for source in sources}
    inside = {batch.digest for batch in store.current_corpus().batches}
    for batch in store.batches():
        if batch.digest not in inside:
            continue
        same_files = {source.sha256 for source in batch.sources} == digests
        same_way = (batch.rewardloop, batch.importer, batch.options) == (__version__, choice.importer.name, options)
        same_key = batch.labeler_key in (None, key_fingerprint(key))
        if same_files and same_way and same_key and not batch.rows_quarantined:
            return _nothing_new(choice, batch.rows_in, [], batch.skipped)
    return None


def _nothing_new(choice: Choice, rows_in: int, rejected: list[Rejected], skipped: Mapping[str, int]) -> IngestReport:
    return IngestReport(
        digest=None,
        importer=choice.importer.name,
        importer_reason=choice.reason,
        rows_in=rows_in,
        rows_taken=0,
        rows_quarantined=len(rejected),
        rows_duplicate=rows_in - len(rejected) - sum(skipped.values()),
        groups=0,
        labels=0,
        labelers=None,
        reasons=[_reason(one) for one in rejected[:_SHOWN_REASONS]],
        skipped=dict(skipped),
    )


def _bar(things: Iterable[_T], table: Table, shown: bool) -> Iterator[_T]:
    return iter(tqdm(things, desc=f"reading {table.name}", unit=" rows", delay=2, disable=not shown))


def _sort(outcomes: Iterable[Outcome], limits: ValidationSettings, found: _Sorted) -> None:
    """Add the outcomes of one file to ``found``; groups out of limits and ids with several contents are rejected."""
    by_id: dict[str, list[Taken]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            found.rejected.append(outcome)
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
                found.left_out.update(outcome.left_out)
    for group_id, same_id in by_id.items():
        contents = {(taken.group.prompt, taken.group.responses) for taken in same_id}
        if len(contents) == 1:
            found.taken += same_id
        else:
            rows: list[Row] = [row for taken in same_id for row in taken.rows]
            places = ", ".join(row.place for row in rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
            found.rejected += [Rejected(row, f"id {group_id!r} comes with different texts at {places}") for row in rows]


def _reason(rejected: Rejected) -> str:
    return f"{rejected.row.place}: {rejected.reason}"


def _check_share(rejected: list[Rejected], rows_in: int, limit: float) -> None:
    if len(rejected) <= limit * rows_in:
        return
    reasons = "\n  ".join(_reason(one) for one in rejected[:_SHOWN_REASONS])
    more = f"\n  and {len(rejected) - _SHOWN_REASONS:,} more" if len(rejected) > _SHOWN_REASONS else ""
    raise BadInputError(
        f"{len(rejected):,} of {rows_in:,} rows ({len(rejected) / rows_in:.1%}) cannot be used; at most {limit:.1%} "
        f"may fail (validation.max_failed_share). Nothing was stored. Correct the rows, or the columns and options:"
        f"\n  {reasons}{more}"
    )


def _labelers(frame: pl.DataFrame) -> int | None:
    labels = frame.select(pl.col("labels").explode()).unnest("labels")
    return labels["labeler"].drop_nulls().n_unique() or None


def _manifest(
    report: IngestReport,
    digest: str,
    choice: Choice,
    sources: list[Source],
    settings: Settings,
    key: bytes,
    protection: Protection,
) -> BatchManifest:
    return BatchManifest(
        digest=digest,
        ingested_at=datetime.now(UTC),
        rewardloop=__version__,
        sources=[SourceFile(name=protection.text(source.name), sha256=source.sha256) for source in sources],
        importer=report.importer,
        importer_reason=report.importer_reason,
        options=choice.options.model_dump(mode="json"),
        rows_in=report.rows_in,
        rows_taken=report.rows_taken,
        rows_quarantined=report.rows_quarantined,
        rows_duplicate=report.rows_duplicate,
        skipped=report.skipped,
        left_out=report.left_out,
        groups=report.groups,
        labels=report.labels,
        labelers=report.labelers,
        labeler_key=key_fingerprint(key) if report.labelers else None,
        splits=settings.splits,
        redacted=dict(protection.redacted),
        forgetting=protection.forgotten.sequence,
    )


def check_refused(store: FeedbackStore, digest: str) -> None:
    reasons = store.refusal(digest)
    if reasons and store.accepted_by(digest) is None:
        raise BadInputError(
            f"these rows are batch {digest[:12]}, which validation refused: {'; '.join(reasons)}. Correct them, or "
            f"take them as they are: rewardloop accept {digest[:12]} --reason WHY"
        )


def check_key(store: FeedbackStore, manifest: BatchManifest) -> None:
    """With another key the same person would count as another labeler, and the same row as a new one."""
    for batch in store.batches():
        if manifest.labeler_key and batch.labeler_key and batch.labeler_key != manifest.labeler_key:
            raise BadInputError(
                f"the labeler key differs from the one of batch {batch.digest[:12]}; restore that key "
                "(REWARDLOOP_LABELER_KEY or the file labeler.key), or start another store"
            )


def _quarantined(rejected: Rejected, key: bytes) -> dict[str, Any]:
    return {
        "place": rejected.row.place,
        "reason": rejected.reason,
        # A row that cannot be parsed may hold labeler ids anywhere: its place in the source file has to do.
        "row": None if rejected.row.raw is None else pseudonymized_row(rejected.row.raw, key),
    }
