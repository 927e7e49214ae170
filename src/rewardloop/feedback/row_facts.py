"""One row of plain facts per feedback group: what the expectations of ``validation`` look at.

In: a batch as a ``FEEDBACK`` table. Out: a pandas table with the same number of rows in the same order.
"""

import pandas as pd
import polars as pl

_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"


def row_facts(batch: pl.DataFrame, criterion: str) -> pd.DataFrame:
    """Facts of each group, vectorized over the batch.

    Columns: group_id, content; prompt_characters, shortest_response, longest_response; control_characters (how many);
    repeats_group, repeats_response (whether); labels (people, or labels without identity, that judged any answer);
    values_finite, ranks_from_one, inside_scale (whether); decided (whether some label prefers one answer).
    """
    rows = batch.with_row_index("row")
    texts = (
        rows.select("row", "responses").explode("responses").select("row", pl.col("responses").struct.field("content"))
    )
    length = pl.col("content").str.len_chars()
    responses = texts.group_by("row").agg(
        length.min().alias("shortest_response"),
        length.max().alias("longest_response"),
        pl.col("content").str.count_matches(_CONTROL).sum().alias("control_in_responses"),
        (pl.col("content").n_unique() < pl.len()).alias("repeats_response"),
    )
    turns = rows.select("row", "prompt").explode("prompt").select("row", pl.col("prompt").struct.field("content"))
    prompts = turns.group_by("row").agg(
        length.sum().alias("prompt_characters"),
        pl.col("content").str.count_matches(_CONTROL).sum().alias("control_in_prompt"),
    )
    facts = (
        rows.select("row", "group_id", "content", pl.col("content").is_first_distinct().not_().alias("repeats_group"))
        .join(responses, on="row", how="left")
        .join(prompts, on="row", how="left")
        .join(_label_facts(rows, criterion), on="row", how="left")
        .with_columns(
            (pl.col("control_in_responses") + pl.col("control_in_prompt").fill_null(0)).alias("control_characters")
        )
        .drop("control_in_responses", "control_in_prompt")
        .sort("row")
        .drop("row")
        .with_columns(pl.col("labels", "prompt_characters").fill_null(0))
    )
    return facts.to_pandas()


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


def _label_facts(rows: pl.DataFrame, criterion: str) -> pl.DataFrame:
    values = label_values(rows)
    finite = pl.col("value").is_finite().fill_null(False)
    scale = pl.col("scale").list
    inside = scale.len().fill_null(0).eq(0) | pl.col("value").is_between(scale.first(), scale.last())
    facts = values.group_by("row").agg(
        pl.col("who").n_unique().alias("labels"),
        finite.all().alias("values_finite"),
        ((pl.col("kind") != "ranking") | (pl.col("value") >= 1)).fill_null(False).all().alias("ranks_from_one"),
        inside.fill_null(False).all().alias("inside_scale"),
    )
    # Single texts are decided by the difference between groups; inside a group, by any two different values.
    spread = (
        values.filter(criterion=criterion)
        .group_by("row", "label")
        .agg((pl.col("value").n_unique() > 1).alias("decided"))
        .group_by("row")
        .agg(pl.col("decided").any())
    )
    return facts.join(spread, on="row", how="left").with_columns(pl.col("decided").fill_null(False))
