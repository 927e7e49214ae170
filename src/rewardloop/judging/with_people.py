"""How far a judge agrees with the people who judged the same answers, as the next run will see it.

In: the judge's groups, and people's labels of the same files or of the store. Out: one line per judge, with the weight
that its votes will have.
"""

from collections.abc import Sequence

import polars as pl

from rewardloop.config import PreferenceSettings
from rewardloop.evidence import LabelerLine
from rewardloop.feedback.store import FeedbackStore
from rewardloop.preferences import groups as grouping
from rewardloop.preferences.answers import unfold
from rewardloop.preferences.labelers import labeler_lines
from rewardloop.preferences.opinions import gather
from rewardloop.records import FeedbackGroup
from rewardloop.tables import FEEDBACK, feedback_frame

_BATCH = "batch"
_ACROSS = 2_000
"""Pairs of single texts, each of which could be compared with every other one: a seeded sample."""


def agreement_with_people(
    judged: Sequence[FeedbackGroup],
    labels: pl.DataFrame,
    store: FeedbackStore,
    settings: PreferenceSettings,
    *,
    criterion: str,
    seed: int,
) -> LabelerLine | None:
    """The judge's line; None where no person judged what it judged.

    Args:
        judged: groups with the labels of one judge alone.
        labels: ``FEEDBACK`` rows that came with the same files.
        store: whose corpus has people's labels too.
        settings: ``preferences``.
        criterion: that is compared.
        seed: of samples and intervals.
    """
    mine = feedback_frame(("", group) for group in judged)
    contents = mine["content"].implode()
    people = _of_people(
        pl.concat([labels.select(FEEDBACK.names()), *_rows(store, mine["content"])]).filter(
            pl.col("content").is_in(contents)
        )
    ).unique("record", maintain_order=True)
    if people.is_empty() or mine.is_empty():
        return None
    table = unfold(pl.concat([mine, people]).with_columns(pl.lit("").alias(_BATCH)))
    values = table.values.filter(criterion=criterion)
    if values["labeler_kind"].n_unique() < 2:
        return None
    answers = table.answers.join(table.groups.select("group", "segment", "size", "prompt"), on="group").with_columns(
        pl.col("group").cast(pl.Int64).alias("bunch")
    )
    found = gather(
        _pairs(answers, seed),
        answers,
        values,
        everybody=values,
        settings=settings.reliability,
        seed=seed,
        models=settings.model_labelers,
    )
    return next((line for line in labeler_lines(found.labelers) if line.kind == "model"), None)


def _pairs(answers: pl.DataFrame, seed: int) -> pl.DataFrame:
    """What can be compared: answers of one group, and texts without a prompt with each other."""
    single = answers.filter((pl.col("size") == 1) & (pl.col("prompt").list.len() == 0))
    across = grouping.pairs_across(single, at_most=_ACROSS, seed=seed)
    inside = grouping.pairs_inside(answers, "bunch")
    return pl.concat([inside, across.with_columns(pl.lit(None, pl.Int64).alias("bunch"))])


def _rows(store: FeedbackStore, contents: pl.Series) -> list[pl.DataFrame]:
    """The store's rows on the same groups, batch by batch."""
    wanted = contents.implode()
    return [
        store.read_batch(batch.digest).filter(pl.col("content").is_in(wanted))
        for batch in store.current_corpus().batches
    ]


def _of_people(rows: pl.DataFrame) -> pl.DataFrame:
    theirs = pl.element().struct.field("labeler_kind") == "human"
    return rows.with_columns(pl.col("labels").list.filter(theirs)).filter(pl.col("labels").list.len() > 0)
