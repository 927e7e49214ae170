"""Validated feedback becomes the ``ITEMS`` and ``PAIRS`` tables, and every group is used or left out with a reason.

Equal feedback gives equal tables, whatever the order of its rows.
"""

from typing import NamedTuple

import polars as pl

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.evidence import DividedPair, Estimate
from rewardloop.preferences import groups as grouping
from rewardloop.preferences.acceptability import acceptability
from rewardloop.preferences.answers import Answers, labeler_kinds, unfold
from rewardloop.preferences.divided import divided_pairs
from rewardloop.preferences.model_labelers import NOT_BY_PEOPLE, UNTRUSTED, of_people
from rewardloop.preferences.one_labeler import one_labeler
from rewardloop.preferences.opinions import Opinions, gather, judged_pairs
from rewardloop.preferences.segments import OTHER_SEGMENT, check_segments, weigh_segments
from rewardloop.preferences.splits import HELD_OUT, place_rows
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
    opinions: Opinions
    divided: list[DividedPair]
    unused: pl.DataFrame
    """document, why, rows: what ``left_out`` counts."""
    divided_documents: list[str]
    """The document of each of ``divided``."""


def build(
    feedback: pl.DataFrame,
    *,
    preferences: PreferenceSettings,
    splits: SplitSettings,
    evaluation: EvaluationSettings,
    golden: frozenset[str],
    known: Opinions | None = None,
    is_sample: bool = False,
) -> Preferences:
    """Build items and pairs.

    Args:
        feedback: a corpus snapshot: ``FEEDBACK`` rows with their ``batch``, and ``weight`` where labels lose weight
            with age.
        preferences: criterion, size of groups, least votes, cut of acceptable ratings.
        splits: shares of documents.
        evaluation: most held-out pairs and the seed.
        golden: documents that are never trained on.
        known: what a sample says of labelers, where ``feedback`` is a part of a corpus (see ``parts``).
        is_sample: ``feedback`` is that sample, which need not have every segment.

    Raises:
        BadInputError: the configuration names a segment that the feedback does not have.
    """
    if known is None and not is_sample:
        check_segments(preferences.segments, feedback)
    placed = place_rows(feedback, splits, golden)
    kept = placed.filter(pl.col("why").is_null())
    unfolded = unfold(kept)
    taken = unfolded._replace(values=weigh_segments(unfolded.values, preferences.segments))
    on_criterion = taken.values.filter(criterion=preferences.criterion)
    # By age alone: what segments and reliability make of a label shifts p, not how much its pair is trained on.
    ages = (
        unfolded.values.filter(criterion=preferences.criterion)
        .group_by("answer")
        .agg(pl.col("weight").mean().alias("age_weight"))
    )
    answers = taken.answers.join(_group(taken, kept, on_criterion, preferences), on="group")

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
    opinions = gather(
        candidates,
        answers,
        on_criterion,
        everybody=unfolded.values.filter(criterion=preferences.criterion),
        settings=preferences.reliability,
        seed=evaluation.seed,
        models=preferences.model_labelers,
        known=known,
    )
    cast = opinions.people
    by_people, pairs = judged_pairs(candidates, opinions, preferences.min_votes)
    pairs, unjudged = _trusted(pairs, opinions.trust, preferences)

    rated = of_people(on_criterion).filter(kind="rating")
    ratings = rated.group_by("answer").agg(pl.col("value").mean().alias("rating")).sort("answer")
    came_together = by_people.filter(pl.col("bunch") < len(taken.groups))
    accepted, source = acceptability(
        of_people(taken.values),
        ratings,
        came_together,
        preferences.acceptable_rating,
        preferences.acceptable_from,
        required=known is None,
    )
    answers = (
        answers.join(ratings, on="answer", how="left")
        .join(accepted, on="answer", how="left")
        .join(taken.values.group_by("answer").agg(pl.len().alias("labels")), on="answer", how="left")
        .join(labeler_kinds(taken.values, "answer"), on="answer", how="left")
        .with_columns(pl.col("labels").fill_null(0))
    )
    divided, documents = divided_pairs(by_people, cast.join(opinions.names, on="who", how="left"), answers)
    # Answers of the calibration split are compared only to tell which are acceptable.
    pairs = pairs.filter(pl.col("split") != "calibration")
    answers = _explain(answers, pairs, unjudged, preferences)
    items = _items(answers.filter(pl.col("why").is_null()))
    unused = _unused(placed, answers)
    left_out = dict(unused.group_by("why").agg(pl.col("rows").sum()).sort("why").iter_rows())
    test = _documents_of(_far_apart(pairs.filter(split="test"), ratings, evaluation.min_rating_gap), answers)
    return Preferences(
        items=items.select(ITEMS.names()).cast(ITEMS),
        pairs=_pairs(pairs, items, ages),
        left_out=left_out,
        groups_used=len(feedback) - sum(left_out.values()),
        acceptability=source,
        one_labeler=None if known else one_labeler(test, cast, rated.select("answer", "value"), evaluation),
        opinions=opinions,
        divided=divided,
        unused=unused,
        divided_documents=documents,
    )


def _group(
    taken: Answers, kept: pl.DataFrame, on_criterion: pl.DataFrame, preferences: PreferenceSettings
) -> pl.DataFrame:
    """Groups with split, ``text`` (a judged single text without prompt), ``why`` it cannot be compared and ``bunch``.

    What is compared with each other shares a ``bunch``: the number of the group, or a higher one for grouped texts.
    """
    single, prompted = pl.col("size") == 1, pl.col("prompt").list.len() > 0
    judged = on_criterion.filter(pl.col("kind").is_in(["rating", "acceptable"]))["group"].unique()
    groups = taken.groups.join(
        kept.select("content", "split").unique(), on="content", maintain_order="left"
    ).with_columns((single & ~prompted & pl.col("group").is_in(judged.implode())).alias("text"))
    texts = groups.filter(pl.col("text") & pl.col("split").is_in(grouping.GROUPED))
    dealt = grouping.group_texts(
        texts.select("content", "document", "split", "segment", pl.col("batches").list.join("|").alias("batch")),
        preferences.group_size,
    )
    return (
        groups.join(dealt, on="content", how="left", maintain_order="left")
        .with_columns(
            pl.when(single & prompted)
            .then(pl.lit(grouping.ALONE))
            .when(pl.col("content").is_in(dealt.filter(pl.col("bunch").is_null())["content"].implode()))
            .then(pl.lit(grouping.NO_PARTNER))
            .when(~pl.col("group").is_in(taken.values["group"].unique().implode()))
            .then(pl.lit(OTHER_SEGMENT))
            .alias("why"),
        )
        .with_columns(
            pl.when(single)
            .then(pl.lit(len(groups)) + pl.col("bunch").cast(pl.Int64))
            .otherwise(pl.col("group").cast(pl.Int64))
            .alias("bunch")
        )
    )


def _trusted(
    pairs: pl.DataFrame, trust: pl.DataFrame | None, preferences: PreferenceSettings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs with ``trust`` (1 where people judged), and ``answer`` and ``unjudged`` of those that are left out."""
    if trust is None:
        return pairs.with_columns(pl.lit(1.0).alias("trust")), pl.DataFrame(schema=_UNJUDGED)
    known = pairs.join(trust, on=["a", "b"], how="left", maintain_order="left")
    judged_by = pl.col("split").is_in(HELD_OUT) & pl.col("trust").is_not_null()
    why = (
        pl.when(judged_by & pl.lit(not preferences.model_labelers.held_out))
        .then(pl.lit(NOT_BY_PEOPLE))
        .when(pl.col("trust") <= 0)
        .then(pl.lit(UNTRUSTED))
    )
    known = known.with_columns(why.alias("unjudged"))
    gone = known.filter(pl.col("unjudged").is_not_null())
    sides = [gone.select(pl.col(side).cast(pl.UInt32).alias("answer"), "unjudged") for side in ("a", "b")]
    kept = known.filter(pl.col("unjudged").is_null()).drop("unjudged").with_columns(pl.col("trust").fill_null(1.0))
    return kept, pl.concat(sides).unique("answer", keep="first", maintain_order=True)


_UNJUDGED = pl.Schema({"answer": pl.UInt32, "unjudged": pl.String})


def _explain(
    answers: pl.DataFrame, pairs: pl.DataFrame, unjudged: pl.DataFrame, preferences: PreferenceSettings
) -> pl.DataFrame:
    """``why`` an answer is left out; null for those that are used."""
    paired = pl.concat([pairs["a"], pairs["b"]]).unique()
    served = pl.col("split").is_in(HELD_OUT) & pl.col("acceptable").is_not_null()
    silent = (
        f"no usable label on {preferences.criterion!r}, or fewer than {preferences.min_votes} comparisons of a pair"
    )
    return answers.join(unjudged, on="answer", how="left", maintain_order="left").with_columns(
        pl.when(pl.col("answer").is_in(paired.implode()) | served)
        .then(pl.lit(None, pl.String))
        .when(pl.col("split") == "calibration")
        .then(pl.lit(grouping.NO_VERDICT))
        .otherwise(pl.coalesce("why", "unjudged", pl.lit(silent)))
        .alias("why")
    )


def _items(used: pl.DataFrame) -> pl.DataFrame:
    order = pl.DataFrame({"split": SPLITS, "place": range(len(SPLITS))})
    return (
        used.join(order, on="split")
        .sort("place", "bunch", "group", "answer", nulls_last=True)
        .with_row_index("item")
        .with_columns((pl.col("bunch").rank("dense").cast(pl.Int64) - 1).fill_null(-1).alias("group"))
    )


def _pairs(pairs: pl.DataFrame, items: pl.DataFrame, ages: pl.DataFrame) -> pl.DataFrame:
    """``PAIRS``; a pair weighs the mean of its two answers, and an answer the mean of its labels, times its trust."""
    place = items.select("answer", "item", "group", "rating").join(ages, on="answer", how="left")
    return (
        pairs.join(place, left_on="a", right_on="answer")
        .join(place, left_on="b", right_on="answer", suffix="_b")
        .select(
            "split",
            "group",
            pl.col("item").alias("a"),
            pl.col("item_b").alias("b"),
            "p",
            "votes",
            "p_error",
            (pl.col("rating") - pl.col("rating_b")).abs().alias("gap"),
            (((pl.col("age_weight") + pl.col("age_weight_b")) / 2).fill_null(1.0) * pl.col("trust")).alias("weight"),
        )
        .cast(PAIRS)
        .sort("a", "b")
    )


def _far_apart(pairs: pl.DataFrame, ratings: pl.DataFrame, gap: float) -> pl.DataFrame:
    """The pairs that count for accuracy: answers without ratings, or at least ``gap`` apart."""
    rated = pairs.join(ratings, left_on="a", right_on="answer", how="left").join(
        ratings, left_on="b", right_on="answer", how="left", suffix="_b"
    )
    apart = (pl.col("rating") - pl.col("rating_b")).abs()
    return rated.filter(apart.is_null() | (apart >= gap))


def _documents_of(pairs: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    documents = answers.select("answer", "document")
    return (
        pairs.select("a", "b")
        .join(documents.rename({"document": "document_a"}), left_on="a", right_on="answer")
        .join(documents.rename({"document": "document_b"}), left_on="b", right_on="answer")
    )


def _unused(placed: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """document, why, rows: feedback rows that were left out, or of whose answers none is used."""
    unused = (
        answers.group_by("group")
        .agg(
            pl.col("document").first(),
            pl.col("why").is_not_null().all().alias("unused"),
            pl.col("why").min(),
            pl.col("rows").first().cast(pl.Int64),
        )
        .filter("unused")
    )
    rows = placed.filter(pl.col("why").is_not_null()).select("document", "why", pl.lit(1, pl.Int64).alias("rows"))
    return (
        pl.concat([rows, unused.select("document", "why", "rows")])
        .group_by("document", "why")
        .agg(pl.col("rows").sum())
        .sort("document", "why")
    )
