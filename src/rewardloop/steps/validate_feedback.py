"""Great Expectations judge every batch of the corpus: bad rows go to quarantine, a bad batch stops the run.

In: the corpus. Out: its rows without the bad ones, Great Expectations' Data Docs, and rows in the store's quarantine. A
refused batch is marked in the store and left out of later corpora, so that it never blocks the loop.
"""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl

from rewardloop.config import PreferenceSettings, ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import BatchVerdict, CorpusEvidence, ValidationEvidence
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.validation import BatchResult, Validator
from rewardloop.steps.step_run import StepRun, step_run
from rewardloop.tables import FEEDBACK

_SHOWN = 3


def validate_feedback(
    *,
    corpus: Path,
    store: str,
    settings: str,
    code_version: str,
    validated: Path,
    data_docs: Path,
    verdicts_count: bool = True,
) -> None:
    """Validate each batch alone.

    Args:
        corpus: output of ``load_corpus``.
        store: URL of the feedback store, for quarantine and refusals.
        settings: JSON with the sections ``validation`` and ``preferences``.
        code_version: fingerprint of the code; part of the pipeline's cache key.
        validated: output folder.
        data_docs: output folder of Great Expectations' own pages.
        verdicts_count: False: nothing is quarantined or refused in the store, and every batch is kept. For looking
            again at a corpus that a run accepted, maybe under other limits than those of now.

    Raises:
        BadInputError: a batch is refused (all of them are named), no row is left, or no batch has labels on the trained
            criterion (nothing is refused then: the configuration is to blame).
    """
    del code_version  # known to the cache, not to the work
    sections = json.loads(settings)
    limits = ValidationSettings.model_validate(sections["validation"])
    criterion = PreferenceSettings.model_validate(sections["preferences"]).criterion
    with step_run("validate_feedback", inputs=[corpus], output=validated) as run:
        about = CorpusEvidence.model_validate_json((corpus / "evidence" / "corpus.json").read_bytes())
        accepted = {line.digest: line.accepted_by for line in about.batches}
        records = pl.scan_parquet(corpus / "records.parquet")
        _check_criterion(records, criterion)
        validator = Validator(limits, criterion, data_docs)
        batches = _batches(records)
        results = [validator.judge(digest, rows.select(FEEDBACK.names())) for digest, rows in batches.items()]
        opened = FeedbackStore.open(store)
        for result in results:
            if result.failed and verdicts_count:
                opened.quarantine(result.digest, "validation", _quarantined(batches[result.digest], result))
        refused = [
            result for result in results if verdicts_count and result.reasons and not accepted.get(result.digest)
        ]
        _write_evidence(run, results, {result.digest for result in refused}, accepted, limits)
        for result in refused:
            opened.refuse(result.digest, result.reasons)
        if refused:
            raise BadInputError(_explain(refused, about, batches))
        kept = sum(len(result.kept) for result in results)
        lost = sum(len(result.failed) for result in results)
        if not kept:
            raise BadInputError("validate_feedback: every row is in quarantine, nothing is left to train on")
        _keep(batches, results, validated / "records.parquet")
        passed = sum(line.passed for result in results for line in result.lines)
        checks = sum(len(result.lines) for result in results)
        run.produced = f"{kept:,} groups kept, {lost:,} quarantined; {passed} of {checks} expectations met"


def _batches(records: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    """The rows of each batch, which stand together: cut out by number, so that none is read for another's sake."""
    runs = records.select(pl.col("batch").rle()).collect().unnest("batch")
    found: dict[str, pl.LazyFrame] = {}
    start = 0
    for count, digest in runs.select("len", "value").iter_rows():
        assert digest not in found
        found[digest] = records.slice(start, count)
        start += count
    return found


def _keep(batches: dict[str, pl.LazyFrame], results: list[BatchResult], target: Path) -> None:
    """Write the rows that passed, in their order, never all of them in memory."""
    kept = []
    for result in results:
        rows = batches[result.digest]
        if result.failed:
            gone = pl.LazyFrame({"row": [row for row, _ in result.failed]}, schema={"row": pl.UInt32})
            numbered = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.UInt32))
            rows = numbered.join(gone, on="row", how="anti", maintain_order="left").drop("row")
        kept.append(rows)
    pl.concat(kept).sink_parquet(target, compression_level=1)


def _check_criterion(records: pl.LazyFrame, criterion: str) -> None:
    named = pl.col("labels").list.eval(pl.element().struct.field("criterion").unique())
    found = records.select(named.explode()).unique().collect().to_series().drop_nulls().sort()
    if criterion not in found:
        raise BadInputError(
            f"preferences.criterion: found {criterion!r}, on which no batch has labels; "
            f"expected one of {', '.join(map(repr, found)) or 'none: there are no labels at all'}"
        )


def _quarantined(batch: pl.LazyFrame, result: BatchResult) -> list[dict[str, Any]]:
    numbers = [row for row, _ in result.failed]
    rows = batch.select(*FEEDBACK.names(), "batch").with_row_index("row").filter(pl.col("row").is_in(numbers))
    return [
        {"place": row["place"], "reason": reason, "row": _json_ready(row)}
        for (_, reason), row in zip(result.failed, rows.drop("row").collect().iter_rows(named=True), strict=True)
    ]


def _json_ready(value: Any) -> Any:
    """The same with NaN and infinities, which JSON does not have, as text."""
    if isinstance(value, dict):
        return {name: _json_ready(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_json_ready(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write_evidence(
    run: StepRun,
    results: list[BatchResult],
    refused: set[str],
    accepted: dict[str, str | None],
    limits: ValidationSettings,
) -> None:
    counts: dict[str, int] = {}
    for result in results:
        for _, reason in result.failed:
            counts[reason] = counts.get(reason, 0) + 1
    kept = sum(len(result.kept) for result in results)
    run.write(
        "validation",
        ValidationEvidence(
            groups_in=kept + sum(len(result.failed) for result in results),
            groups_kept=kept,
            quarantined=counts,
            batches=[
                BatchVerdict(
                    digest=result.digest,
                    groups=len(result.kept) + len(result.failed),
                    quarantined=len(result.failed),
                    limit=limits.max_failed_share,
                    refused=result.digest in refused,
                    accepted_by=accepted.get(result.digest),
                    reasons=result.reasons,
                )
                for result in results
            ],
            expectations=[line for result in results for line in result.lines],
        ),
    )


def _explain(refused: list[BatchResult], about: CorpusEvidence, batches: dict[str, pl.LazyFrame]) -> str:
    sources = {line.digest: line.source for line in about.batches}
    parts = []
    for result in refused:
        place = batches[result.digest].select("place").collect()["place"]
        bad = [f"{place[row]}: {reason}" for row, reason in result.failed[:_SHOWN]]
        more = len(result.failed) - len(bad)
        title = f"batch {result.digest[:12]} ({sources.get(result.digest, '?')}) is refused:"
        parts.append("\n  ".join([title, *result.reasons, *bad, *([f"and {more:,} rows more"] if more else [])]))
    commands = "\n  ".join(f"rewardloop accept {result.digest[:12]} --reason WHY" for result in refused)
    them = "it" if len(refused) == 1 else "them"
    return (
        "\n".join(parts) + f"\nThe next run goes on without {them}. To mend a batch, correct its file and ingest it "
        f"again; to use it all the same:\n  {commands}"
    )
