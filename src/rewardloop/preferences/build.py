"""Validated feedback becomes the ``ITEMS`` and ``PAIRS`` tables, and every group is used or left out with a reason.

Equal feedback gives equal tables, whatever the order of its rows.
"""

from typing import NamedTuple

import polars as pl

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.evidence import Estimate
from rewardloop.preferences import groups as grouping
from rewardloop.preferences.acceptability import acceptability
from rewardloop.preferences.answers import Answers, unfold
from rewardloop.preferences.consensus import consensus, votes
from rewardloop.preferences.one_labeler import one_labeler
from rewardloop.preferences.splits import TOUCHES_GOLDEN, assign_splits
from rewardloop.records import SPLITS
from rewardloop.tables import ITEMS, PAIRS


class Preferences(NamedTuple):
    """What ``build_preferences`` makes of a corpus."""

    items: pl.DataFrame
    pairs: pl.DataFrame
    left_out: dict[str, int]
    """Reason -> feedback rows."""
    groups_used: int
    """Feedback rows that are part of the tables."""
    acceptability: str
    one_labeler: Estimate | None


def build(
    feedback: pl.DataFrame,
    *,
    preferences: PreferenceSettings,
    splits: SplitSettings,
    evaluation: EvaluationSettings,
    golden: frozenset[str],
) -> Preferences:
    """Build items and pairs.

    Args:
        feedback: ``FEEDBACK`` rows.
        preferences: criterion, size of groups, least votes, cut of acceptable ratings.
        splits: shares of documents.
        evaluation: most held-out pairs and the seed.
        golden: documents that are never trained on.
    """
    taken = unfold(feedback)
    on_criterion = taken.values.filter(criterion=preferences.criterion)
    placed = _place(taken, preferences, splits, golden)
    answers = taken.answers.join(placed, on="group")
    cast = votes(on_criterion)

    inside = grouping.pairs_inside(answers, "bunch").join(
        answers.select("answer", "split"), left_on="a", right_on="answer"
    )
    single = answers.filter(pl.col("text") & pl.col("split").is_in(["test", "golden"]))
    across = [
        grouping.pairs_across(part, at_most=evaluation.max_pairs, seed=evaluation.seed).with_columns(
            pl.lit(None, pl.Int64).alias("bunch"), pl.lit(split).alias("split")
        )
        for (split,), part in single.partition_by("split", as_dict=True, maintain_order=True).items()
    ]
    candidates = pl.concat([inside, *across], how="vertical_relaxed")
    pairs = consensus(candidates, cast, on_criterion).filter(pl.col("votes") >= preferences.min_votes)

    rated = on_criterion.filter(kind="rating")
    ratings = rated.group_by("answer").agg(pl.col("value").mean().alias("rating")).sort("answer")
    accepted, source = acceptability(taken.values, ratings, pairs, preferences.acceptable_rating)
    answers = (
        answers.join(ratings, on="answer", how="left")
        .join(accepted, on="answer", how="left")
        .join(taken.values.group_by("answer").agg(pl.len().alias("labels")), on="answer", how="left")
        .with_columns(pl.col("labels").fill_null(0))
    )
    answers = _explain(answers, pairs, preferences)
    items = _items(answers.filter(pl.col("why").is_null()), taken)
    table = _pairs(pairs, items, answers)
    test = _documents_of(pairs.filter(split="test"), answers)
    return Preferences(
        items=items.select(ITEMS.names()).cast(ITEMS),
        pairs=table,
        left_out=_left_out(answers),
        groups_used=int(
            answers.group_by("group")
            .agg(pl.col("why").is_null().any(), pl.col("rows").first())
            .filter("why")["rows"]
            .sum()
        ),
        acceptability=source,
        one_labeler=one_labeler(test, cast, rated.select("answer", "value"), evaluation),
    )


def _place(
    taken: Answers, preferences: PreferenceSettings, splits: SplitSettings, golden: frozenset[str]
) -> pl.DataFrame:
    """Groups with split, ``text`` (a single text without prompt), ``bunch`` (what is compared) and ``why`` left out."""
    groups = assign_splits(taken.groups, taken.answers, splits, golden)
    groups = groups.with_columns(
        ((pl.col("prompt").list.len() == 0) & (pl.col("size") == 1)).alias("text"),
        pl.when(pl.col("split") == TOUCHES_GOLDEN)
        .then(pl.lit(TOUCHES_GOLDEN))
        .when(~pl.col("random") & pl.col("split").is_in(grouping.HELD_OUT))
        .then(pl.lit(grouping.NOT_RANDOM))
        .alias("why"),
    )
    texts = groups.filter(pl.col("text") & pl.col("why").is_null() & pl.col("split").is_in(grouping.GROUPED))
    bunches = grouping.group_texts(texts.select("content", "document", "split", "segment"), preferences.group_size)
    first = pl.lit(len(groups)) + pl.col("bunch_right").cast(pl.Int64)
    return (
        groups.join(bunches, on="content", how="left", suffix="_right", maintain_order="left")
        .rename({"bunch": "bunch_right"}, strict=False)
        .with_columns(
            pl.when(pl.col("text") | (pl.col("size") < 2))
            .then(first)
            .otherwise(pl.col("group").cast(pl.Int64))
            .alias("bunch")
        )
        .drop("bunch_right")
    )


def _explain(answers: pl.DataFrame, pairs: pl.DataFrame, preferences: PreferenceSettings) -> pl.DataFrame:
    """Add why an answer is left out; null for those that are used."""
    paired = pl.concat([pairs["a"], pairs["b"]]).unique()
    held_out = pl.col("split").is_in(grouping.HELD_OUT)
    useful = pl.col("answer").is_in(paired.implode()) | (held_out & pl.col("acceptable").is_not_null())
    silent = (
        f"no usable label on {preferences.criterion!r}, or fewer than {preferences.min_votes} comparisons of a pair"
    )
    return answers.with_columns(
        pl.when(pl.col("why").is_not_null())
        .then("why")
        .when(useful)
        .then(pl.lit(None, pl.String))
        .when((pl.col("size") == 1) & ~pl.col("text"))
        .then(pl.lit(grouping.ALONE))
        .when(pl.col("text") & pl.col("bunch").is_null() & pl.col("split").is_in(grouping.GROUPED))
        .then(pl.lit(grouping.NO_PARTNER))
        .otherwise(pl.lit(silent))
        .alias("why")
    )


def _items(used: pl.DataFrame, taken: Answers) -> pl.DataFrame:
    order = pl.DataFrame({"split": SPLITS, "place": range(len(SPLITS))})
    compared = pl.col("bunch").is_not_null() & ~(pl.col("text") & pl.col("split").is_in(grouping.HELD_OUT))
    return (
        used.join(order, on="split")
        .sort("place", "bunch", "group", "answer", nulls_last=True)
        .with_row_index("item")
        .with_columns(
            pl.when(compared).then(pl.col("bunch").rank("dense").cast(pl.Int64) - 1).otherwise(-1).alias("group")
        )
    )


def _pairs(pairs: pl.DataFrame, items: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    place = items.select("answer", "item", "group", "rating")
    return (
        pairs.join(
            answers.filter(pl.col("why").is_not_null()).select("answer"), left_on="a", right_on="answer", how="anti"
        )
        .join(place, left_on="a", right_on="answer")
        .join(place, left_on="b", right_on="answer", suffix="_b")
        .select(
            "split",
            "group",
            pl.col("item").alias("a"),
            pl.col("item_b").alias("b"),
            "p",
            "votes",
            (pl.col("rating") - pl.col("rating_b")).abs().alias("gap"),
        )
        .cast(PAIRS)
        .sort("a", "b")
    )


def _documents_of(pairs: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    documents = answers.select("answer", "document")
    return (
        pairs.select("a", "b")
        .join(documents.rename({"document": "document_a"}), left_on="a", right_on="answer")
        .join(documents.rename({"document": "document_b"}), left_on="b", right_on="answer")
    )


def _left_out(answers: pl.DataFrame) -> dict[str, int]:
    """Reason -> feedback rows of which no answer is used."""
    whole = answers.group_by("group").agg(
        pl.col("why").is_null().any().alias("used"), pl.col("why").drop_nulls().min(), pl.col("rows").first()
    )
    counts = whole.filter(~pl.col("used")).group_by("why").agg(pl.col("rows").sum()).sort("why")
    return {str(why): int(rows) for why, rows in counts.iter_rows()}
