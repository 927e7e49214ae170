"""Verdicts on batches, each judged once: a batch never changes, so neither does what the same limits say of it.

In: batches of a snapshot. Out: their ``BatchResult`` and their pages, from what is kept where it is, else from Great
Expectations, which take seconds to load and are loaded only for that.
"""

import json
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from rewardloop.config import ValidationSettings
from rewardloop.evidence import ExpectationLine
from rewardloop.feedback.data_docs import finish_site, pack_pages, put_pages
from rewardloop.feedback.quarantined import digest_of, failed_rows, put_in_quarantine
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.validation import BatchResult, Validator
from rewardloop.kept import Kept, code_fingerprint, key_of, room
from rewardloop.snapshots import Snapshot, SnapshotBatch
from rewardloop.tables import FEEDBACK

_KIND = "verdicts"


class _Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    rows: int
    criteria: list[str]
    failed: list[tuple[int, str]]
    lines: list[ExpectationLine]
    reasons: list[str]
    quarantined: str | None
    """``quarantined.digest_of`` the failed rows; None where there are none."""


class Verdicts:
    """What validation says of each batch of a snapshot."""

    def __init__(
        self, snapshot: Snapshot, kept: Kept, limits: ValidationSettings, criterion: str, data_docs: Path
    ) -> None:
        self._snapshot, self._kept, self._data_docs = snapshot, kept, data_docs
        self._limits, self._criterion = limits, criterion
        self._known: dict[str, _Verdict] = {}
        self._pages: dict[str, bytes] = {}
        self._criteria: dict[str, list[str]] = {}
        for batch in snapshot.batches:
            found = kept.read(_KIND, self._key(batch))
            if found is not None:
                self._known[batch.digest] = _Verdict.model_validate_json(found["verdict.json"])
                self._pages[batch.digest] = found["pages.json.gz"]
                self._criteria[batch.digest] = self._known[batch.digest].criteria
            else:
                self._criteria[batch.digest] = _criteria(snapshot.scan_batch(batch))

    @property
    def criteria(self) -> list[str]:
        """Criteria that have labels in some batch."""
        return sorted({name for names in self._criteria.values() for name in names})

    def results(self) -> list[BatchResult]:
        """The verdict on every batch; pages of all of them and an index are in the folder then."""
        validator: Validator | None = None
        found = []
        for batch in self._snapshot.batches:
            known = self._known.get(batch.digest)
            if known is None:
                validator = validator or Validator(self._limits, self._criterion, self._data_docs)
                known = self._judge(validator, batch)
            found.append(_result(batch.digest, known))
        # Great Expectations remove pages of what they did not judge: kept ones come last.
        for packed in self._pages.values():
            put_pages(self._data_docs, packed)
        finish_site(self._data_docs, found)
        if validator is not None:
            self._kept.trim(room(self._snapshot.size))
        return found

    def quarantine(self, store: FeedbackStore) -> None:
        """Put the failed rows into the store's quarantine; after ``results``."""
        for batch in self._snapshot.batches:
            known = self._known[batch.digest]
            if known.failed:
                put_in_quarantine(store, self._snapshot, batch, _result(batch.digest, known), known.quarantined)

    def _judge(self, validator: Validator, batch: SnapshotBatch) -> _Verdict:
        self._snapshot.check(batch)
        result = validator.judge(batch.digest, self._snapshot.scan_batch(batch).select(FEEDBACK.names()))
        rows = failed_rows(self._snapshot, batch, result) if result.failed else []
        verdict = _Verdict(
            rows=batch.count,
            criteria=self._criteria[batch.digest],
            failed=result.failed,
            lines=result.lines,
            reasons=result.reasons,
            quarantined=digest_of(rows) if rows else None,
        )
        content = {
            "verdict.json": verdict.model_dump_json().encode(),
            "pages.json.gz": pack_pages(self._data_docs, batch.digest),
        }
        self._kept.keep(_KIND, self._key(batch), content, [batch.digest])
        self._known[batch.digest] = verdict
        return verdict

    def _key(self, batch: SnapshotBatch) -> str:
        return key_of(
            content=batch.content,
            limits=json.loads(self._limits.model_dump_json()),
            criterion=self._criterion,
            code=code_fingerprint("feedback"),
        )


def _result(digest: str, known: _Verdict) -> BatchResult:
    numbers = pl.int_range(known.rows, dtype=pl.UInt32, eager=True)
    failed = pl.Series([row for row, _ in known.failed], dtype=pl.UInt32)
    kept = numbers.filter(~numbers.is_in(failed.implode()))
    return BatchResult(digest, kept, list(known.failed), list(known.lines), list(known.reasons))


def _criteria(rows: pl.LazyFrame) -> list[str]:
    named = pl.col("labels").list.eval(pl.element().struct.field("criterion").unique())
    return rows.select(named.explode()).unique().collect().to_series().drop_nulls().sort().to_list()
