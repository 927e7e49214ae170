"""What people said of aligned policies' answers beside their references'.

In: feedback rows whose two answers are named ``policy:<digest>`` and ``reference:<digest>`` (``model``), as the import
of finished comparisons writes them (``rewardloop.feedback.comparisons``), with ``source`` ``run:<id>``. Out: one
``HumanComparison`` per policy. Labels of one prompt are not independent: the prompt is the unit.
"""

import numpy as np
import polars as pl

from rewardloop.bootstrap import over_documents
from rewardloop.evidence import HumanComparison

_POLICY, _REFERENCE, _RUN = "policy:", "reference:", "run:"
_SAMPLES = 1000
_EXACT = 1e-9


def human_comparisons(records: pl.DataFrame) -> list[HumanComparison]:
    """Wins, ties and losses over prompts, the win rate with its interval, per policy; oldest run first.

    A prompt's share of wins is the mean over its labelers, of each one's mean where one labeled it more than once; ties
    count one half. A prompt is won where its share is above one half. A policy that several runs compared is listed
    under the latest (ids of runs begin with their time).

    Args:
        records: ``FEEDBACK`` rows; others than comparisons are not looked at.
    """
    votes = _votes(records)
    found = [_comparison(policy, rows) for (policy,), rows in votes.partition_by("policy", as_dict=True).items()]
    return sorted(found, key=lambda one: (one.run_id, one.policy))


def _comparison(policy: object, votes: pl.DataFrame) -> HumanComparison:
    shares = (
        votes.group_by("document", "who")
        .agg(pl.col("vote").mean())
        .sort("document", "who")
        .group_by("document", maintain_order=True)
        .agg(pl.col("vote").mean())["vote"]
        .to_numpy()
    )
    mean = over_documents(np.arange(len(shares)), samples=_SAMPLES, seed=0, confidence=0.95, unit="prompts")
    return HumanComparison(
        policy=str(policy),
        run_id=str(votes["run"].max() or ""),
        prompts=len(shares),
        labels=votes.height,
        labelers=votes["labeler"].drop_nulls().n_unique() or None,
        wins=int((shares > 0.5 + _EXACT).sum()),
        ties=int((np.abs(shares - 0.5) <= _EXACT).sum()),
        losses=int((shares < 0.5 - _EXACT).sum()),
        win_rate=mean(shares),
    )


def _votes(records: pl.DataFrame) -> pl.DataFrame:
    """One row per label: policy, run, document, labeler, who (a labeler, or a label without one), vote (1, 0.5, 0)."""
    answers = (
        records.with_row_index("row")
        .select("row", "responses")
        .explode("responses")
        .unnest("responses")
        .with_columns(
            pl.col("model").str.strip_prefix(_POLICY).alias("policy"),
            pl.col("model").str.starts_with(_POLICY).alias("own"),
            pl.col("model").str.starts_with(_REFERENCE).alias("other"),
        )
    )
    own = answers.filter("own").select("row", "policy", pl.col("response_id").alias("own"))
    other = answers.filter("other").select("row", pl.col("response_id").alias("other"))
    labels = (
        records.with_row_index("row")
        .join(own, on="row")
        .join(other, on="row")
        .select("row", "policy", "own", "other", "document", "source", "labels")
        .explode("labels")
        .with_row_index("label")
        .unnest("labels")
        # A rank says the opposite of a value: 1 is best.
        .with_columns(pl.when(kind="ranking").then(-1).otherwise(1).alias("sign"))
    )
    values = labels.select("label", "own", "other", "values").explode("values").unnest("values")
    mine = values.filter(pl.col("response_id") == pl.col("own")).select("label", pl.col("value").alias("mine"))
    theirs = values.filter(pl.col("response_id") == pl.col("other")).select("label", pl.col("value").alias("theirs"))
    return (
        labels.join(mine, on="label")
        .join(theirs, on="label")
        .select(
            "policy",
            pl.when(pl.col("source").str.starts_with(_RUN)).then(pl.col("source").str.strip_prefix(_RUN)).alias("run"),
            "document",
            "labeler",
            pl.coalesce("labeler", pl.format("#{}", "label")).alias("who"),
            ((pl.col("sign") * (pl.col("mine") - pl.col("theirs"))).sign() / 2 + 0.5).alias("vote"),
        )
        .sort("policy", "document", "who")
    )
