"""Feedback groups as two long tables: answers, and the values that labels give them.

In: a corpus snapshot, perhaps with the same group in several batches. Out: one row per distinct answer of a group
(groups of equal content are one group, their labels add up), and one row per label and answer.
"""

from typing import NamedTuple

import polars as pl

MIXED = "mixed"
"""The kind of labeler where there are several."""


class Answers(NamedTuple):
    """``groups``: group, content, document, segment, source, prompt, random, batches, labeled_at, size, rows (of
    feedback).

    ``answers``: answer, group, response, response_id, model.
    ``values``: answer, group, who (one person's labels share it), sheet, kind, criterion, value (higher is better);
    labeler and labeler_kind of who gave it; row, batch, segment and sampling of the record it came with, the 0-based
    position of the answer in that record, and the weight that its age leaves it (1 in a window that does not decay).
    ``who`` is above 0 for labelers with an identity. Values of one kind on one sheet can be compared: a person's
    ratings or verdicts on all answers, but the ranks or choices of one label only. The same rating or verdict that a
    labeler with an identity gave an answer in several records (exports that grow repeat it) is there once, of the
    record of most weight.
    """

    groups: pl.DataFrame
    answers: pl.DataFrame
    values: pl.DataFrame


def unfold(feedback: pl.DataFrame) -> Answers:
    """Take the rows of a corpus snapshot apart; the result does not depend on their order."""
    rows = feedback.sort("content", "record").with_row_index("row")
    if "weight" not in rows.columns:
        rows = rows.with_columns(pl.lit(1.0).alias("weight"))
    groups = (
        rows.group_by("content")
        .agg(
            pl.col("document").min(),
            pl.col("segment").min(),
            pl.col("source").min(),
            pl.col("prompt").first(),
            (pl.col("sampling") == "random").any().alias("random"),
            pl.col("batch").unique().sort().alias("batches"),
            pl.col("labeled_at").max(),
            pl.len().alias("rows"),
        )
        .sort("content")
        .with_row_index("group")
    )
    listed = (
        rows.join(groups.select("content", "group"), on="content")
        .with_columns(pl.int_ranges(pl.col("responses").list.len(), dtype=pl.Int32).alias("position"))
        .select("row", "group", "batch", "segment", "sampling", "weight", "responses", "position")
        .explode("responses", "position")
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
    named = listed.join(answers.select("group", "response", "answer"), on=["group", "response"]).drop("response")
    # Without an identity, only the values inside one label are known to be one person's.
    alone = -1 - pl.col("label").cast(pl.Int64)
    values = (
        rows.select("row", "labels")
        .explode("labels")
        .with_row_index("label")
        .unnest("labels")
        .with_columns(pl.coalesce(pl.col("labeler").rank("dense").cast(pl.Int64), alone).alias("who"))
        .with_columns(
            pl.when(pl.col("kind").is_in(["ranking", "choice"])).then(alone).otherwise("who").alias("sheet"),
        )
        .explode("values")
        .unnest("values")
        .join(named, on=["row", "response_id"])
        .select(
            "answer",
            "group",
            "who",
            "sheet",
            "kind",
            "criterion",
            pl.when(kind="ranking").then(-pl.col("value")).otherwise("value").alias("value"),
            "labeler",
            "labeler_kind",
            "segment",
            "sampling",
            "batch",
            "row",
            "position",
            "weight",
        )
        .sort(*_SAID, "weight", "row", descending=[*(False for _ in _SAID), True, False])
    )
    values = values.filter(~_said_before())
    sizes = answers.group_by("group").agg(pl.len().alias("size"))
    return Answers(groups.join(sizes, on="group").sort("group"), answers, values)


_SAID = ("answer", "who", "sheet", "kind", "criterion", "value", "labeler_kind", "sampling")


def _said_before() -> pl.Expr:
    """Whether a row of sorted values repeats one of another record; ranks and choices are told apart by their sheet."""
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in _SAID)
    first = pl.when(~same).then("row").forward_fill()  # the record in which it stands first
    return same & (pl.col("who") > 0) & (pl.col("row") != first)


def labeler_kinds(values: pl.DataFrame, key: str | list[str]) -> pl.DataFrame:
    """``key`` and ``labeler_kind``: whose labels they are, "mixed" where they are of several kinds of labelers."""
    kind = pl.col("labeler_kind")
    return values.group_by(key).agg(
        pl.when(kind.drop_nulls().n_unique() > 1).then(pl.lit(MIXED)).otherwise(kind.min()).alias("labeler_kind")
    )
