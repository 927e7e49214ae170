"""One row of plain facts about a whole batch: what the expectations on batches look at.

In: the usable rows of a batch as a ``FEEDBACK`` table. Out: a pandas table of one row.
"""

from collections import Counter
from collections.abc import Collection

import pandas as pd
import polars as pl

from rewardloop.agreement import agreement
from rewardloop.feedback.row_facts import label_values, slices


def batch_facts(
    batch: pl.DataFrame | pl.LazyFrame, criterion: str, *, without: Collection[int] = (), with_agreement: bool
) -> pd.DataFrame:
    """Facts of a batch without its failed rows, summed up over slices of it.

    Args:
        batch: all rows.
        criterion: the trained one. A batch without labels on it may still say which answers are acceptable; it is
            judged by those verdicts then.
        without: numbers of the failed rows.
        with_agreement: compute the agreement; it is None otherwise, and where it cannot be computed.

    Columns: groups, failed_share, labels (their number), labelers (distinct ones, or labels of one answer without
    identities), duplicate_share, label_imbalance, decided (how many things some label prefers to others), agreement.
    """
    criterion = _judged_by(batch, criterion, without)
    found = _Sums()
    for rows in slices(batch, without):
        found.add(rows, criterion)
    return pd.DataFrame(
        {
            "groups": [found.groups],
            "failed_share": [len(without) / max(found.groups + len(without), 1)],
            "labels": [found.labels],
            "labelers": [max(len(found.labelers), found.together)],
            "duplicate_share": [found.duplicate_share()],
            "label_imbalance": [max(found.scores.values()) / found.scores.total() if found.scores else 0.0],
            "decided": [found.decided + int(len(found.singles) > 1)],
            "agreement": [agreement(_at_most(batch, without), criterion).alpha if with_agreement else None],
        }
    )


_AGREEING = 100_000
"""Groups that agreement is computed from: it is a sample of a few thousand units anyway."""


def _at_most(batch: pl.DataFrame | pl.LazyFrame, without: Collection[int]) -> pl.DataFrame:
    """All rows that did not fail, or those of the groups with the lowest hashes."""
    content = batch.lazy().select("content").collect()["content"]
    highest = content.sort()[_AGREEING - 1] if len(content) > _AGREEING else None
    kept = (rows if highest is None else rows.filter(pl.col("content") <= highest) for rows in slices(batch, without))
    return pl.concat(list(kept))


def _judged_by(batch: pl.DataFrame | pl.LazyFrame, criterion: str, without: Collection[int]) -> str:
    verdicts: Counter[str] = Counter()
    for rows in slices(batch, without):
        values = label_values(rows.with_row_index("row"))
        if criterion in values["criterion"]:
            return criterion
        verdicts.update(dict(values.filter(kind="acceptable").group_by("criterion").len().iter_rows()))
    return min(verdicts, key=lambda name: (-verdicts[name], name), default=criterion)


class _Sums:
    """What slices of a batch add up to; nothing of one group is in two slices but its labels by others."""

    def __init__(self) -> None:
        self.groups = self.labels = self.together = self.decided = 0
        self.labelers: set[str] = set()
        self.scores: Counter[tuple[str, float]] = Counter()
        self.singles: set[float] = set()
        """Means of single texts; two of them are enough."""
        self._asked: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame, criterion: str) -> None:
        """Count further rows of the batch."""
        values = label_values(rows.with_row_index("row")).filter(criterion=criterion)
        self.groups += len(rows)
        self.labels += values["label"].n_unique()
        self.labelers |= set(values["labeler"].drop_nulls().unique())
        together = values.group_by("row", "response_id").agg(pl.col("who").n_unique())["who"].max()
        self.together = max(self.together, int(str(together or 0)))
        scored = values.filter(pl.col("kind").is_in(["rating", "acceptable"]))
        counts = scored.group_by("kind", "value").len()
        self.scores.update({(kind, value): count for kind, value, count in counts.iter_rows()})
        self._decide(values, scored)
        # What the same labelers, or people without identity, were asked already: 128 bits tell which rows are equal.
        asked = rows.select("content", pl.col("labels").list.eval(pl.element().struct.field("labeler").unique().sort()))
        self._asked.append(asked.select(a=pl.struct(asked.columns).hash(1), b=pl.struct(asked.columns).hash(2)))

    def duplicate_share(self) -> float:
        asked = pl.concat(self._asked)
        return 1 - asked.n_unique() / len(asked) if len(asked) else 0.0

    def _decide(self, values: pl.DataFrame, scored: pl.DataFrame) -> None:
        """Count groups in which a label, or the means of scores, tell answers apart, and see whether single texts
        differ."""
        inside = values.group_by("row", "label").agg(pl.col("value").n_unique()).filter(pl.col("value") > 1)["row"]
        # Each answer may have a label of its own, which tells nothing apart alone. Rounded: sums depend on their order.
        means = scored.group_by("row", "response_id").agg(pl.col("value").mean().round(9))
        groups = means.group_by("row").agg(
            pl.len().alias("answers"), pl.col("value").n_unique(), mean=pl.first("value")
        )
        across = groups.filter(pl.col("value") > 1)["row"]
        self.decided += pl.concat([inside, across]).n_unique()
        # Single texts are compared with each other.
        self.singles |= set(groups.filter(answers=1)["mean"].unique()[:2])
