"""Items, pairs and splits: nothing leaks, nothing is lost, and the order of rows does not matter."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.preferences.build import Preferences, build
from rewardloop.preferences.groups import ALONE, NO_PARTNER, NOT_RANDOM, pairs_across
from rewardloop.preferences.splits import TOUCHES_GOLDEN
from rewardloop.records import FeedbackGroup, document_key
from rewardloop.tables import ITEMS, PAIRS
from tests.unit.preferences.feedback import choice, frame, group, ranking, rated_texts, rating

SPLITS = SplitSettings(train=0.4, validation=0.2, calibration=0.2, test=0.2)
HALF = SplitSettings(train=0.5, validation=0.0, calibration=0.0, test=0.5)


def built(
    groups: list[FeedbackGroup], splits: SplitSettings = SPLITS, golden: frozenset[str] = frozenset(), **changes: Any
) -> Preferences:
    evaluation = EvaluationSettings(max_pairs=changes.pop("max_pairs", 10_000), bootstrap_samples=100)
    preferences = PreferenceSettings.model_validate({"group_size": 4} | changes)
    return build(frame(groups), preferences=preferences, splits=splits, evaluation=evaluation, golden=golden)


def prompted(count: int, **fields: Any) -> list[FeedbackGroup]:
    return [group([f"yes {i}", f"no {i}"], [choice("a", "b")], prompt=f"Question {i}?", **fields) for i in range(count)]


def test_tables_have_the_agreed_columns() -> None:
    result = built([*prompted(30), *rated_texts(60)])
    assert result.items.schema == ITEMS
    assert result.pairs.schema == PAIRS
    assert result.items["item"].to_list() == list(range(len(result.items)))
    assert (result.pairs["a"] < result.pairs["b"]).all()


def test_single_texts_are_grouped_inside_split_and_segment() -> None:
    texts = rated_texts(80, segment="x") + [
        one.model_copy(
            update={
                "group_id": f"y{one.group_id}",
                "segment": "y",
                "responses": (one.responses[0].model_copy(update={"content": f"other {one.group_id}"}),),
            }
        )
        for one in rated_texts(80)
    ]
    result = built(texts)
    trained = result.items.filter(pl.col("split").is_in(["train", "validation"]))
    by_group = trained.group_by("group").agg(
        pl.len(), pl.col("split").n_unique(), pl.col("segment").n_unique().alias("segments")
    )
    assert by_group["len"].max() == 4
    assert (by_group["split"] == 1).all()
    assert (by_group["segments"] == 1).all()
    held_out = result.items.filter(pl.col("split").is_in(["calibration", "test"]))
    assert (held_out["group"] == -1).all()


def test_held_out_texts_all_meet_inside_their_segment() -> None:
    result = built(rated_texts(60), splits=HALF)
    test = result.items.filter(split="test")
    pairs = result.pairs.filter(split="test")
    assert len(pairs) == len(test) * (len(test) - 1) // 2
    one = pairs.row(0, named=True)
    ratings = dict(result.items.select("item", "rating").iter_rows())
    assert one["gap"] == pytest.approx(abs(ratings[one["a"]] - ratings[one["b"]]))
    assert one["group"] == -1


@pytest.mark.parametrize("at_most", [1, 10, 44, 45, 1000])
def test_sampled_pairs_are_distinct_and_as_many_as_wanted(at_most: int) -> None:
    answers = pl.DataFrame(
        {"answer": range(100, 110), "segment": [None] * 10}, schema={"answer": pl.UInt32, "segment": pl.String}
    )
    pairs = pairs_across(answers, at_most=at_most, seed=0)
    assert len(pairs.unique()) == len(pairs) == min(45, at_most)
    assert (pairs["a"] < pairs["b"]).all()
    assert set(pairs["a"]) | set(pairs["b"]) <= set(range(100, 110))


def test_ranked_lists_stay_as_they_came() -> None:
    lists = [
        group([f"t{i}{j}" for j in range(5)], [ranking("w", a=1, b=2, c=3, d=4, e=5)], prompt=None) for i in range(20)
    ]
    result = built(lists)
    assert (result.pairs.group_by("group").len()["len"] == 10).all()
    assert (result.items.group_by("group").len()["len"] == 5).all()


def test_one_document_never_spans_splits_and_texts_join_documents() -> None:
    # Lists 0-1-2 share a text in a chain, so they share a split; each of 30 chains does.
    lists = []
    for chain in range(30):
        for link in range(3):
            texts = [f"c{chain} shared {link}", f"c{chain} shared {link + 1}", f"c{chain} own {link}"]
            lists.append(group(texts, [ranking("w", a=1, b=2, c=3)], prompt=None, group_id=f"{chain}-{link}"))
    result = built(lists)
    chains = result.items.with_columns(pl.col("response").str.extract(r"(c\d+)").alias("chain"))
    assert (chains.group_by("chain").agg(pl.col("split").n_unique())["split"] == 1).all()
    assert chains["split"].n_unique() > 1


def test_golden_documents_are_golden_and_their_neighbours_are_left_out() -> None:
    frozen = group(["shared", "mine"], [ranking("w", a=1, b=2)], prompt=None)
    neighbour = group(["shared", "other"], [ranking("w", a=1, b=2)], prompt=None)
    result = built([frozen, neighbour, *prompted(30)], golden=frozenset({document_key(frozen)}))
    assert set(result.items.filter(split="golden")["response"]) == {"shared", "mine"}
    assert result.left_out == {TOUCHES_GOLDEN: 1}


def test_what_was_picked_on_purpose_is_trained_on_and_never_judged_by() -> None:
    result = built(prompted(200, sampling="active"))
    assert set(result.items["split"]) == {"train", "validation"}
    assert result.left_out[NOT_RANDOM] == 200 - result.groups_used


def test_lonely_answers_are_named() -> None:
    lonely = group(["only"], [rating("w", a=3)], prompt="Alone?")
    pair = prompted(40)
    result = built([lonely, *pair], splits=HALF)
    assert result.left_out == {ALONE: 1}
    single = built([*rated_texts(1), *pair], splits=SplitSettings(train=1.0, validation=0, calibration=0, test=0))
    assert single.left_out == {NO_PARTNER: 1}


def test_lonely_answer_with_a_verdict_serves_the_threshold() -> None:
    verdict = [{"kind": "acceptable", "values": {"a": True}}]
    alone = [group([f"only {i}"], verdict, prompt=f"Alone {i}?") for i in range(50)]
    result = built([*alone, *prompted(5)], splits=SplitSettings(train=0, validation=0, calibration=1, test=0))
    assert result.items["acceptable"].sum() == 50
    assert result.acceptability.startswith("explicit verdicts")


@pytest.mark.parametrize(
    ("cut", "share", "source"), [(2.0, 0.6, "mean rating >= 2"), (None, None, "won more than half of its comparisons")]
)
def test_acceptability_has_one_source(cut: float | None, share: float | None, source: str) -> None:
    texts = [group([f"t{i}"], [rating(a=i % 5)], prompt=None, group_id=str(i)) for i in range(100)]
    result = built(texts, acceptable_rating=cut)
    assert result.acceptability == source
    if share is not None:
        assert result.items["acceptable"].mean() == pytest.approx(share)


def test_too_few_votes_are_no_evidence() -> None:
    result = built(prompted(30), min_votes=2)
    assert result.pairs.is_empty()
    assert sum(result.left_out.values()) == 30


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 25), st.integers(0, 40))
def test_every_group_is_used_or_left_out_and_order_is_nothing(random: Any, prompts: int, texts: int) -> None:
    groups = [*prompted(prompts), *rated_texts(texts), group(["x"], [rating(a=1)], prompt="Alone?")]
    first = built(groups)
    assert first.groups_used + sum(first.left_out.values()) == len(groups)
    random.shuffle(groups)
    second = built(groups)
    assert_frame_equal(first.items, second.items)
    assert_frame_equal(first.pairs, second.pairs)
    spread = first.items.group_by("document").agg(pl.col("split").n_unique())
    assert (spread["split"] == 1).all()


def test_one_labeler_against_the_others_by_hand() -> None:
    # Two say A, one says B. Each of the two sees one A and one B among the others: a tie, which does not count.
    # The third's others both say A, and he says B: wrong. So one comparison counts, and it is wrong.
    labels = [choice("a", "b", "w1"), choice("a", "b", "w2"), choice("b", "a", "w3")]
    only_test = SplitSettings(train=0, validation=0, calibration=0, test=1)
    result = built([group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}") for i in range(10)], splits=only_test)
    assert result.one_labeler is not None
    assert result.one_labeler.value == 0.0
    agreeing = [choice("a", "b", who) for who in ("w1", "w2", "w3")]
    result = built([group([f"A{i}", f"B{i}"], agreeing, prompt=f"Q{i}") for i in range(10)], splits=only_test)
    assert result.one_labeler is not None
    assert result.one_labeler.value == 1.0
