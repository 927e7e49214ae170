"""One row of plain facts about a whole batch: what the expectations on batches look at.

In: the usable rows of a batch as a ``FEEDBACK`` table. Out: a pandas table of one row.
"""

import pandas as pd
import polars as pl

from rewardloop.agreement import agreement
from rewardloop.feedback.row_facts import label_values


def batch_facts(kept: pl.DataFrame, criterion: str, failed_share: float, *, with_agreement: bool) -> pd.DataFrame:
    """Facts of a batch without its failed rows.

    Args:
        kept: the usable rows.
        criterion: the trained one. A batch without labels on it may still say which answers are acceptable; it is
            judged by those verdicts then.
        failed_share: share of the batch's rows that are not in ``kept``.
        with_agreement: compute the agreement; it is None otherwise, and where it cannot be computed.

    Columns: groups, failed_share, labels (their number), labelers (distinct ones, or labels of one answer without
    identities), duplicate_share, label_imbalance, decided (how many things some label prefers to others), agreement.
    """
    values = label_values(kept.with_row_index("row"))
    if criterion not in values["criterion"]:
        verdicts = values.filter(kind="acceptable")["criterion"].value_counts(sort=True)
        criterion = next(iter(verdicts.sort("count", "criterion", descending=[True, False])["criterion"]), criterion)
    values = values.filter(criterion=criterion)
    named = values["labeler"].drop_nulls().n_unique()
    together = values.group_by("row", "response_id").agg(pl.col("who").n_unique())["who"].to_list()
    scored = values.filter(pl.col("kind").is_in(["rating", "acceptable"]))
    counts = scored.group_by("kind", "value").len()["len"].to_list()
    return pd.DataFrame(
        {
            "groups": [len(kept)],
            "failed_share": [failed_share],
            "labels": [values["label"].n_unique()],
            "labelers": [max([named, *together])],
            "duplicate_share": [_duplicate_share(kept)],
            "label_imbalance": [max(counts) / sum(counts) if counts else 0.0],
            "decided": [_decided(values, scored)],
            "agreement": [agreement(kept, criterion).alpha if with_agreement else None],
        }
    )


def _duplicate_share(kept: pl.DataFrame) -> float:
    """Share of rows that say again what the same labelers, or people without identity, were asked already."""
    asked = kept.select("content", pl.col("labels").list.eval(pl.element().struct.field("labeler").unique().sort()))
    return 1 - asked.n_unique() / len(asked) if len(asked) else 0.0


def _decided(values: pl.DataFrame, scored: pl.DataFrame) -> int:
    """Groups in which a label, or the means of scores, tell answers apart; one more if single texts differ."""
    inside = values.group_by("row", "label").agg(pl.col("value").n_unique()).filter(pl.col("value") > 1)["row"]
    # Each answer may have a label of its own, which tells nothing apart alone. Rounded: sums depend on their order.
    means = scored.group_by("row", "response_id").agg(pl.col("value").mean().round(9))
    groups = means.group_by("row").agg(pl.len().alias("answers"), pl.col("value").n_unique(), mean=pl.first("value"))
    across = groups.filter(pl.col("value") > 1)["row"]
    # Single texts are compared with each other.
    singles = groups.filter(answers=1)["mean"].n_unique() > 1
    return pl.concat([inside, across]).n_unique() + int(singles)
