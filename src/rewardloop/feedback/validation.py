"""Great Expectations judge a batch: which rows go to quarantine, and whether the batch may be used.

In: a batch and ``ValidationSettings``. Out: a ``BatchResult``: the kept rows, the failed ones with their reasons, what
each expectation found, and why the batch is refused, if it is. Great Expectations' own results decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl

from rewardloop.config import ValidationSettings
from rewardloop.evidence import ExpectationLine
from rewardloop.feedback.batch_facts import batch_facts
from rewardloop.feedback.expectations import batch_expectations, row_expectations
from rewardloop.feedback.row_facts import row_facts

_EXAMPLES = 3


@dataclass
class BatchResult:
    """What validation found in one batch."""

    digest: str
    kept: pl.Series
    """Numbers of the rows that passed."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """(row of the batch, reasons in words)."""
    lines: list[ExpectationLine] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """Why the batch as a whole is not fit for use; empty when it is."""


class Validator:
    """An in-memory Great Expectations context that judges batches and keeps their results as Data Docs."""

    def __init__(self, settings: ValidationSettings, criterion: str, data_docs: Path) -> None:
        import great_expectations as gx
        from great_expectations.checkpoint import UpdateDataDocsAction

        self.settings = settings
        self.criterion = criterion
        self._gx = gx
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        site = {
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(data_docs.absolute())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        self._context.add_data_docs_site(site_name="rewardloop", site_config=site)
        self._action = UpdateDataDocsAction(name="data_docs", site_names=["rewardloop"])
        self._source = self._context.data_sources.add_pandas("batches")

    def judge(self, digest: str, batch: pl.DataFrame | pl.LazyFrame) -> BatchResult:
        """Judge one batch: its rows first, then the batch as a whole without its failed rows."""
        settings = _as_labeled(self.settings, batch)
        reasons: dict[int, list[str]] = {}
        lines = []
        place = batch.lazy().select("place").collect()["place"]
        rows = len(place)
        for result in self._run(f"rows-{digest[:12]}", row_facts(batch), row_expectations(settings)):
            wrong = [int(row) for row in result.result.get("unexpected_index_list") or []]
            meta = result.expectation_config.meta
            for row in wrong:
                reasons.setdefault(row, []).append(meta["found"])
            places = [str(place[row]) for row in wrong[:_EXAMPLES]]
            lines.append(_line(digest, "row", result, meta["expected"], rows, len(wrong), examples=places))
        failed = sorted((row, "; ".join(dict.fromkeys(found))) for row, found in reasons.items())
        numbers = pl.int_range(rows, dtype=pl.UInt32, eager=True)
        verdict = BatchResult(digest, numbers.filter(~numbers.is_in(list(reasons))), failed, lines)
        whole = batch_facts(batch, self.criterion, without=reasons, with_agreement=settings.min_agreement is not None)
        for result in self._run(f"batch-{digest[:12]}", whole, batch_expectations(settings, self.criterion)):
            column, meta = result.expectation_config.kwargs.get("column"), result.expectation_config.meta
            observed = None if column is None else _shown(column, whole[column].iloc[0])
            wanted = f"{meta['fact']}: {meta['expected']}"
            lines.append(_line(digest, "batch", result, wanted, 1, int(not result.success), observed=observed))
            if not result.success:
                verdict.reasons.append(f"{meta['fact']}: found {observed}; expected {meta['expected']}")
        return verdict

    def _run(self, name: str, table: pd.DataFrame, expectations: list[Any]) -> list[Any]:
        """Results in the order of ``expectations``; an expectation that could not be evaluated is an error."""
        gx = self._gx
        for order, expectation in enumerate(expectations):
            expectation.meta["order"] = order  # results come back in another one
        suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(
                name=name,
                data=self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole"),
                suite=suite,
            )
        )
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=[self._action],
            result_format={"result_format": "COMPLETE"},
        )
        # A plain RangeIndex: Great Expectations' own row identifiers are slow where many rows fail.
        done = self._context.checkpoints.add(checkpoint).run({"dataframe": table.reset_index(drop=True)})
        results = next(iter(done.run_results.values())).results
        for result in results:
            if result.exception_info.get("raised_exception") or (not result.success and not result.result):
                raise RuntimeError(f"{result.expectation_config.type} could not be evaluated: {result.exception_info}")
        return sorted(results, key=lambda one: int(one.expectation_config.meta["order"]))


def _as_labeled(settings: ValidationSettings, batch: pl.DataFrame | pl.LazyFrame) -> ValidationSettings:
    """Limits on how many people labeled, and agree, are none for a batch that no person labeled."""
    of_rows = pl.col("labels").list.eval(pl.element().struct.field("labeler_kind").unique()).explode()
    kinds = batch.lazy().select(of_rows.unique()).collect().to_series()
    if kinds.is_empty() or "human" in kinds:
        return settings
    of_one = {"min_labelers_per_item": 1, "min_labelers_per_batch": 1, "min_agreement": None}
    return settings.model_copy(update=of_one)


def _line(
    digest: str,
    level: Literal["row", "batch"],
    result: Any,
    expected: str,
    checked: int,
    unexpected: int,
    *,
    examples: Sequence[str] = (),
    observed: str | None = None,
) -> ExpectationLine:
    return ExpectationLine(
        batch=digest,
        expectation=expected,
        level=level,
        passed=bool(result.success),
        checked=checked,
        unexpected=unexpected,
        observed=observed,
        examples=list(examples),
    )


def _shown(column: str, value: Any) -> str:
    if value is None or value != value:
        return "nothing that can be computed"
    if column.endswith(("_share", "_imbalance")):
        return f"{value:.1%}"
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"
