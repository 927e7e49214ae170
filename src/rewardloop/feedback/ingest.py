"""Files of feedback become one immutable batch of the store.

In: paths in any known format. Out: a committed batch, or nothing at all. Every row of the files is taken, quarantined
with its reason, or counted as a duplicate or as one in which nobody judged anything. Labeler ids are replaced by
pseudonyms before anything is written.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from rewardloop import __version__
from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Choice, Rejected, choose
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.importers.whole import tables_of
from rewardloop.feedback.ingest_large import is_large, temporary_folder
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.ingest_rows import Read, first_reasons, read_canonical, read_rows
from rewardloop.feedback.protection import Protection
from rewardloop.feedback.pseudonyms import key_fingerprint, pseudonymized_row
from rewardloop.feedback.reading import Source, read_sources
from rewardloop.feedback.store import BatchManifest, FeedbackStore, SourceFile, batch_digest, records_digest

_T = TypeVar("_T")


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
            read = read_canonical(sources, choice, settings, store, key, Path(folder))
        else:
            outcomes = (
                _bar(protection.over(choice.importer.read(table, choice.options, settings.validation)), table, progress)
                for table in tables
            )
            read = read_rows(outcomes, settings, store, key, votes=choice.importer.votes)
        return _commit(read, sources, choice, settings, store, key, protection)


def _commit(
    read: Read,
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
        reasons=first_reasons(read.rejected),
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
        reasons=first_reasons(rejected),
        skipped=dict(skipped),
    )


def _bar(things: Iterable[_T], table: Table, shown: bool) -> Iterator[_T]:
    return iter(tqdm(things, desc=f"reading {table.name}", unit=" rows", delay=2, disable=not shown))


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
        labeler_key=key_fingerprint(key) if report.labelers or protection.has_keyed_ids else None,
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
