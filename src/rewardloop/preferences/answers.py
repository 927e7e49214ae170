"""Feedback groups as two long tables: answers, and the values that labels give them.

In: a ``FEEDBACK`` table, perhaps with the same group in several batches. Out: one row per distinct answer of a group
(groups of equal content are one group, their labels add up), and one row per label and answer.
"""

from typing import NamedTuple

import polars as pl


class Answers(NamedTuple):
    """``groups``: group, content, document, segment, prompt, random, size, rows (feedback rows it was made of).

    ``answers``: answer, group, response, response_id, model.
    ``values``: answer, group, who (one person's labels share it), named, kind, criterion, value (higher is better).
    """

    groups: pl.DataFrame
    answers: pl.DataFrame
    values: pl.DataFrame


def unfold(feedback: pl.DataFrame) -> Answers:
    """Take ``FEEDBACK`` rows apart; the result does not depend on the order of the rows."""
    rows = feedback.sort("content", "record").with_row_index("row")
    groups = (
        rows.group_by("content")
        .agg(
            pl.col("document").min(),
            pl.col("segment").min(),
            pl.col("prompt").first(),
            (pl.col("sampling") == "random").all().alias("random"),
            pl.len().alias("rows"),
        )
        .sort("content")
        .with_row_index("group")
    )
    listed = (
        rows.join(groups.select("content", "group"), on="content")
        .select("row", "group", "responses")
        .explode("responses")
        .unnest("responses")
        .rename({"content": "response"})
    )
    # Batches may name the answers of one group differently; their text tells which is which.
    answers = (
        listed.group_by("group", "response")
        .agg(pl.col("response_id").min(), pl.col("model").min())
        .sort("group", "response")
        .with_row_index("answer")
    )
    named = listed.join(answers.select("group", "response", "answer"), on=["group", "response"])
    values = (
        rows.select("row", "labels")
        .explode("labels")
        .with_row_index("label")
        .unnest("labels")
        .explode("values")
        .unnest("values")
        .join(named.select("row", "group", "response_id", "answer"), on=["row", "response_id"])
        .select(
            "answer",
            "group",
            # Without an identity, only the values inside one label are known to be one person's.
            pl.coalesce("labeler", pl.format("#{}", "label")).alias("who"),
            pl.col("labeler").is_not_null().alias("named"),
            "kind",
            "criterion",
            pl.when(kind="ranking").then(-pl.col("value")).otherwise("value").alias("value"),
        )
        .sort("answer", "who", "kind", "criterion", "value")
    )
    sizes = answers.group_by("group").agg(pl.len().alias("size"))
    return Answers(groups.join(sizes, on="group").sort("group"), answers, values)
