"""One row of plain facts per feedback group: what the expectations on rows look at.

In: a batch as a ``FEEDBACK`` table. Out: a pandas table with the same number of rows in the same order.
"""

import pandas as pd
import polars as pl

_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_KINDS = ["ranking", "rating", "choice", "acceptable"]


def row_facts(batch: pl.DataFrame) -> pd.DataFrame:
    """Facts of each group, vectorized over the batch.

    Columns: group_id, content; missing_texts (how many); prompt_characters, longest_response; shortest_response
    (without white space around it, as importers count it; null without responses); control_characters (how many);
    repeats_response (whether); labels (people, or labels without identity, on the criterion that has most of them);
    kinds_known, values_finite, ranks_valid, inside_scale (whether).
    """
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
            # Files with one row per vote give one group per vote; its content is what people judged together.
            pl.col("labels").fill_null(0).sum().over("content"),
            "kinds_known",
            "values_finite",
            "ranks_valid",
            "inside_scale",
        )
        .to_pandas()
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
