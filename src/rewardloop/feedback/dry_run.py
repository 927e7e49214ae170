"""What an ingest would do, without a trace: the first records, and every count.

In: what ``ingest`` takes. Out: a ``DryRun``. The ingest itself runs, against a store that reads and writes nothing, so
that its counts are those of the real one; the first records are read once more by the same importer.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Taken, choose, length_problem
from rewardloop.feedback.importers.whole import tables_of
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.protection import Protection
from rewardloop.feedback.pseudonyms import pseudonymized
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import BatchManifest, FeedbackStore
from rewardloop.records import FeedbackGroup
from rewardloop.storage import Storage
from rewardloop.tables import canonical_json

RECORDS = 3
"""Records that are shown."""
_REASONS = 10
_UNSEEN = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal acts on instead of showing it; JSON escapes the rest."""


@dataclass(frozen=True)
class DryRun:
    """``report`` is what the ingest would say, ``refusal`` why it would refuse.

    Where too large a share of the rows cannot be used there are both: what it would say if all that may fail. Where
    anything else is the reason there is no report.
    """

    records: list[str]
    """The first canonical records as JSON, labelers under their pseudonyms."""
    report: IngestReport | None
    refusal: str | None
    reasons: Mapping[str, int]
    """Reasons for quarantine, the most frequent ones -> rows."""
    kinds: Mapping[str, int]
    """Kinds of labels that would be taken -> labels."""


class _NoWriting(Storage):
    """A storage that answers as if it had written."""

    def write(self, name: str, data: bytes, *, mode: int | None = None) -> None:
        """Nothing is written."""

    def create(self, name: str, data: bytes, *, mode: int | None = None) -> bool:
        """Nothing is created, and nobody else's is there."""
        return True


@dataclass
class _Seen:
    reasons: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Witness(FeedbackStore):
    """A store that keeps the counts of what it is given, and nothing else."""

    seen: _Seen = field(default_factory=_Seen)

    def write_batch(self, rows: pl.DataFrame | Path, manifest: BatchManifest) -> bool:
        """Count labels by kind."""
        table = rows.lazy() if isinstance(rows, pl.DataFrame) else pl.scan_parquet(rows)
        kinds = table.select(pl.col("labels").explode().struct.field("kind").value_counts(sort=True)).collect()
        self.seen.kinds.update({row["kind"]: row["count"] for row in kinds["kind"].to_list()})
        return True

    def quarantine(self, digest: str, name: str, rows: list[dict[str, Any]]) -> None:
        """Count reasons."""
        self.seen.reasons.update(row["reason"] for row in rows)


def look(
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
) -> DryRun:
    """Everything that an ingest of the files would do, but write.

    Args:
        paths, store, settings, key, format, options, columns, say, progress: as of ``ingest``.

    Raises:
        BadInputError: the files cannot be read at all, or no format fits. What ``ingest`` would refuse behind that is
            in ``DryRun.refusal``.
    """
    records = _first_records(paths, store, settings, key, format, options or {}, columns or {})
    storage = _NoWriting(**{one.name: getattr(store.storage, one.name) for one in dataclasses.fields(Storage)})

    def take(settings: Settings, say: Callable[[str], None]) -> tuple[IngestReport | None, str | None, _Seen]:
        witness = _Witness(storage)
        how: dict[str, Any] = {"format": format, "options": options, "columns": columns}
        try:
            return ingest(paths, witness, settings, key=key, say=say, progress=progress, **how), None, witness.seen
        except BadInputError as error:
            return None, str(error), witness.seen

    report, refusal, seen = take(settings, say)
    if refusal is not None:
        # Whoever looks wants to know which rows, and how many: if it was their share, all of them are counted now.
        limits = settings.validation.model_copy(update={"max_failed_share": 1.0})
        report, _, seen = take(settings.model_copy(update={"validation": limits}), lambda line: None)
    return DryRun(
        records=records,
        report=report,
        refusal=refusal,
        reasons=dict(seen.reasons.most_common(_REASONS)),
        kinds=seen.kinds,
    )


def _first_records(
    paths: Sequence[Path],
    store: FeedbackStore,
    settings: Settings,
    key: bytes,
    format: str,
    options: Mapping[str, str],
    columns: Mapping[str, str],
) -> list[str]:
    sources = read_sources(paths, limit=settings.store.max_read_bytes, max_row=settings.store.max_row_characters)
    tables = tables_of(sources, format, store.storage)
    choice = choose(tables, format, options, columns)
    protection = Protection.of(store.storage, settings.privacy, key)
    found: list[str] = []
    for table in tables:
        for group in _groups(protection.over(choice.importer.read(table, choice.options, settings.validation))):
            if not length_problem(group.prompt, group.responses, settings.validation):
                found.append(canonical_json(pseudonymized(group, key)))
            if len(found) == RECORDS:
                return found
    return found


def _groups(outcomes: Iterator[Any]) -> Iterator[FeedbackGroup]:
    return (outcome.group for outcome in outcomes if isinstance(outcome, Taken))


def in_words(run: DryRun) -> list[str]:
    """Lines for people: the records, the counts, and what nobody should be surprised by."""
    lines = [_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", record) for record in run.records]
    report = run.report
    if report is None:
        return lines
    if run.refusal is not None:
        lines.append("would be refused, see below; if every row might fail (validation.max_failed_share=1):")
    lines.append(
        f"rows: {report.rows_in:,} = {report.rows_taken:,} taken, {report.rows_quarantined:,} quarantined, "
        f"{report.rows_duplicate:,} duplicates, {sum(report.skipped.values()):,} skipped"
    )
    lines += [f"  skipped, {reason}: {rows:,}" for reason, rows in report.skipped.items()]
    lines += [f"  left out in taken rows, {reason}: {count:,}" for reason, count in report.left_out.items()]
    lines += [f"  quarantined, {reason}: {rows:,}" for reason, rows in run.reasons.items()]
    lines += [f"  first: {reason}" for reason in report.reasons]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in run.kinds.items()) or "none"
    who = "anonymous" if report.labelers is None else f"{report.labelers:,}"
    lines.append(f"groups: {report.groups:,}; labels: {report.labels:,} ({kinds}); labelers: {who}")
    if report.digest is None and run.refusal is None:
        lines.append("nothing new: the store has every row that can be taken")
    return lines
