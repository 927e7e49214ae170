"""One row of plain facts per feedback group: what the expectations on rows look at.

In: a batch as a ``FEEDBACK`` table. Out: a pandas table with the same number of rows in the same order.
"""

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd
import polars as pl

_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_KINDS = ["ranking", "rating", "choice", "acceptable"]


SLICE = 1 << 15
"""Rows whose labels and texts are taken apart at a time."""


def row_facts(batch: pl.DataFrame | pl.LazyFrame) -> pd.DataFrame:
    """Facts of each group, vectorized over slices of the batch.

    Columns: group_id, content; missing_texts (how many); prompt_characters, longest_response; shortest_response
    (without white space around it, as importers count it; null without responses); control_characters (how many);
    repeats_response (whether); labels (people, or labels without identity, on the criterion that has most of them);
    kinds_known, values_finite, ranks_valid, inside_scale (whether).
    """
    facts = pl.concat([_own_facts(rows) for rows in slices(batch)])
    # Files with one row per vote give one group per vote; its content is what people judged together.
    return facts.with_columns(pl.col("labels").sum().over("content")).to_pandas()


def slices(batch: pl.DataFrame | pl.LazyFrame, without: Collection[int] = ()) -> Iterator[pl.DataFrame]:
    """The rows but some, some thousands at a time; one empty slice where there are none.

    Args:
        batch: rows of one batch.
        without: numbers of rows to leave out. (After a filter the file would be read from its start for every slice.)
    """
    count = batch.lazy().select(pl.len()).collect().item()
    gone = np.fromiter(without, dtype=np.int64, count=len(without))
    for start in range(0, max(count, 1), SLICE):
        rows = batch.lazy().slice(start, SLICE).collect()
        here = np.ones(len(rows), dtype=bool)
        here[gone[(gone >= start) & (gone < start + len(rows))] - start] = False
        yield rows if here.all() else rows.filter(pl.Series(here))


def _own_facts(batch: pl.DataFrame) -> pl.DataFrame:
    rows = batch.with_row_index("row")
    content = pl.col("content")
    responses = (
        rows.select("row", "responses")
        .explode("responses")
        .select("row", pl.col("responses").struct.field("content"))
        .group_by("row")
        .agg(
            content.is_null().sum().alias("missing_responses"),
            content.str.strip_chars().str.len_chars().min().alias("shortest_response"),
            content.str.len_chars().max().alias("longest_response"),
            content.str.count_matches(_CONTROL).sum().alias("control_in_responses"),
            (content.n_unique() < pl.len()).alias("repeats_response"),
        )
    )
    prompts = (
        rows.filter(pl.col("prompt").list.len() > 0)
        .select("row", "prompt")
        .explode("prompt")
        .select("row", pl.col("prompt").struct.field("content"))
        .group_by("row")
        .agg(
            content.is_null().sum().alias("missing_turns"),
            content.str.len_chars().sum().alias("prompt_characters"),
            content.str.count_matches(_CONTROL).sum().alias("control_in_prompt"),
        )
    )
    # A group without responses has no row in ``responses``: a null would pass most expectations.
    missing = pl.col("missing_responses").fill_null(1) + pl.col("missing_turns").fill_null(0)
    control = pl.col("control_in_responses").fill_null(0) + pl.col("control_in_prompt").fill_null(0)
    return (
        rows.select("row", "group_id", "content", pl.col("prompt").is_null().cast(pl.UInt32).alias("missing_prompt"))
        .join(responses, on="row", how="left")
        .join(prompts, on="row", how="left")
        .join(_label_facts(rows), on="row", how="left")
        .sort("row")
        .select(
            "group_id",
            "content",
            (missing + pl.col("missing_prompt")).alias("missing_texts"),
            pl.col("prompt_characters").fill_null(0),
            "shortest_response",
            "longest_response",
            control.alias("control_characters"),
            "repeats_response",
            pl.col("labels").fill_null(0),
            "kinds_known",
            "values_finite",
            "ranks_valid",
            "inside_scale",
        )
    )


def label_values(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per label and answer: row, label, who, labeler, criterion, kind, scale, response_id, value."""
    return (
        rows.select("row", "labels")
        .explode("labels")
        .with_row_index("label")
        .unnest("labels")
        .with_columns(pl.coalesce("labeler", pl.format("#{}", "label")).alias("who"))
        .explode("values")
        .unnest("values")
    )


def _label_facts(rows: pl.DataFrame) -> pl.DataFrame:
    values = label_values(rows)
    value = pl.col("value")
    scale = pl.col("scale").list
    inside = scale.len().fill_null(0).eq(0) | value.is_between(scale.first(), scale.last())
    people = (
        values.filter(value.is_not_null())
        .group_by("row", "criterion")
        .agg(pl.col("who").n_unique())
        .group_by("row")
        .agg(pl.col("who").max().alias("labels"))
    )
    facts = values.group_by("row").agg(
        pl.col("kind").is_in(_KINDS).fill_null(False).all().alias("kinds_known"),
        value.is_finite().fill_null(False).all().alias("values_finite"),
        ((pl.col("kind") != "ranking") | ((value >= 1) & (value == value.floor())))
        .fill_null(False)
        .all()
        .alias("ranks_valid"),
        inside.fill_null(False).all().alias("inside_scale"),
    )
    return facts.join(people, on="row", how="left")
