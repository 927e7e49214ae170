"""Items, pairs and splits: nothing leaks, nothing is lost, and the order of rows does not matter."""

import itertools
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.preferences.build import Preferences, build
from rewardloop.preferences.groups import ALONE, NO_PARTNER, NO_VERDICT, pairs_across
from rewardloop.preferences.splits import NOT_RANDOM, SHARES_TEXT, TOUCHES_GOLDEN, place_rows
from rewardloop.records import FeedbackGroup, document_key
from rewardloop.tables import ITEMS, PAIRS
from tests.unit.preferences.feedback import choice, frame, group, ranking, rated_texts, rating

SPLITS = SplitSettings(train=0.4, validation=0.2, calibration=0.2, test=0.2)
WAYS = list(itertools.product(["ab", "ba"], repeat=3))
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
    compared = result.items.filter(pl.col("split") != "calibration")
    assert (compared.group_by("group").len()["len"] == 5).all()
    # Calibration asks which answers are acceptable: the middle one of five won half of its comparisons.
    assert set(result.items.filter(split="calibration").group_by("group").len()["len"]) == {4}


def test_calibration_has_items_and_no_pairs() -> None:
    result = built(prompted(100))
    assert len(result.items.filter(split="calibration")) > 0
    assert result.items.filter(split="calibration")["acceptable"].is_not_null().all()
    assert set(result.pairs["split"]) == {"train", "validation", "test"}


def test_texts_of_one_document_go_to_different_groups() -> None:
    # One long document of 20 texts, 100 of one text: 30 groups of 4, so no group needs two texts of one document.
    long = [group([f"long {i}"], [rating(a=i)], prompt=None, document_id="long") for i in range(20)]
    texts = [*long, *(group([f"short {i}"], [rating(a=i)], prompt=None) for i in range(100))]
    result = built(texts, splits=SplitSettings(train=1.0, validation=0, calibration=0, test=0))
    groups = result.items.group_by("group").agg(pl.len(), pl.col("document").n_unique().alias("documents"))
    assert len(groups) == 30
    assert (groups["len"] == 4).all()
    assert (groups["documents"] == 4).all()


def test_texts_without_a_label_on_the_criterion_take_no_place_in_a_group() -> None:
    other = [group([f"tone {i}"], [rating(a=i) | {"criterion": "tone"}], prompt=None) for i in range(40)]
    result = built([*rated_texts(40), *other], splits=SplitSettings(train=1.0, validation=0, calibration=0, test=0))
    assert set(result.items.group_by("group").len()["len"]) == {4}
    assert result.groups_used == 40
    assert result.left_out == {"no usable label on 'overall', or fewer than 1 comparisons of a pair": 40}


def test_no_text_is_in_two_splits() -> None:
    # Neighbouring lists share a text; what is held out gives way to what is trained on.
    lists = [group([f"t{i}", f"T{i + 1} "], [ranking("w", a=1, b=2)], prompt=None) for i in range(200)]
    result = built(lists)
    texts = result.items.with_columns(pl.col("response").str.to_lowercase().str.strip_chars().alias("text"))
    assert (texts.group_by("text").agg(pl.col("split").n_unique())["split"] == 1).all()
    assert set(result.items["split"]) == {"train", "validation", "calibration", "test"}
    assert set(result.left_out) == {SHARES_TEXT}
    own = place_rows(frame(lists), SPLITS, frozenset()).filter(split="train")
    assert own["why"].is_null().all(), "nothing takes a document out of training"


def test_a_document_keeps_its_split_when_feedback_comes_that_links_it_to_others() -> None:
    first = [group([f"t{i}", f"u{i}"], [ranking("w", a=1, b=2)], prompt=None) for i in range(100)]
    links = [group([f"t{i}", f"t{i + 1}"], [ranking("w", a=1, b=2)], prompt=None) for i in range(99)]
    before, after = built(first).items, built([*first, *links]).items
    both = before.join(after, on=["document", "response"], suffix="_after")
    assert both["document"].n_unique() >= 50
    assert (both["split"] == both["split_after"]).all()


def test_a_golden_text_is_golden_under_any_name() -> None:
    # The same text comes again without its document's id, and has another document hash then.
    pairs = [
        (
            group([f"same {i}"], [rating(a=i)], prompt=None, document_id=f"film {i}"),
            group([f"Same  {i}"], [rating(a=i)], prompt=None),
        )
        for i in range(30)
    ]
    golden = frozenset(document_key(first) for first, _ in pairs)
    result = built([one for pair in pairs for one in pair], golden=golden, acceptable_rating=15)
    assert set(result.items["split"]) == {"golden"}
    assert set(result.items["response"]) == {f"same {i}" for i in range(30)}
    assert result.left_out == {TOUCHES_GOLDEN: 30}


def test_same_prompt_in_two_batches_is_in_one_split() -> None:
    first = [group([f"a{i}", f"b{i}"], [choice("a", "b")], prompt=f"Question {i}?") for i in range(60)]
    second = [group([f"c{i}", f"d{i}"], [choice("a", "b")], prompt=f"  QUESTION {i}? ") for i in range(60)]
    result = built([*first, *second])
    number = pl.col("response").str.slice(1).alias("number")
    assert (result.items.group_by(number).agg(pl.col("split").n_unique())["split"] == 1).all()
    assert result.items["split"].n_unique() == 4


def test_golden_documents_are_golden_and_their_neighbours_are_left_out() -> None:
    frozen = group(["shared", "mine"], [ranking("w", a=1, b=2)], prompt=None)
    neighbour = group(["shared", "other"], [ranking("w", a=1, b=2)], prompt=None)
    result = built([frozen, neighbour, *prompted(30)], golden=frozenset({document_key(frozen)}))
    assert set(result.items.filter(split="golden")["response"]) == {"shared", "mine"}
    assert result.left_out == {TOUCHES_GOLDEN: 1}


@pytest.mark.parametrize("sampling", ["active", "comparison", "control"])
def test_what_was_picked_on_purpose_is_trained_on_only(sampling: str) -> None:
    result = built(prompted(200, sampling=sampling))
    assert set(result.items["split"]) == {"train"}
    assert result.left_out == {NOT_RANDOM: 200 - result.groups_used}


def test_what_is_labeled_again_on_purpose_stays_in_the_random_sample() -> None:
    # Hard answers are labeled again by choice: were they taken out of the test, it would get easier.
    again = [
        group([f"yes {i}", f"no {i}"], [choice("b", "a", "w")], prompt=f"Question {i}?", sampling="active")
        for i in range(100)
    ]
    # Who always contradicts has no weight; here his votes must be seen.
    once, twice = (
        built(groups, reliability={"method": "none"}) for groups in (prompted(100), [*prompted(100), *again])
    )
    for split in ("calibration", "test"):
        assert once.items.filter(split=split)["response"].equals(twice.items.filter(split=split)["response"])
    assert set(twice.pairs.filter(split="test")["votes"]) == {1.0}
    assert set(twice.pairs.filter(split="train")["votes"]) == {2.0}
    assert list(twice.left_out) == [NOT_RANDOM]
    assert twice.groups_used + twice.left_out[NOT_RANDOM] == 200


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
    ("cut", "share", "source"),
    [
        (2.0, 0.6, "mean rating >= 2"),
        (None, None, "not known (set preferences.acceptable_rating or ingest `acceptable` labels)"),
    ],
)
def test_acceptability_has_one_source(cut: float | None, share: float | None, source: str) -> None:
    texts = [group([f"t{i}"], [rating(a=i % 5)], prompt=None, group_id=str(i)) for i in range(100)]
    result = built(texts, acceptable_rating=cut)
    assert result.acceptability == source
    if share is None:
        assert result.items["acceptable"].is_null().all()
        assert result.left_out[NO_VERDICT] == 100 - result.groups_used
    else:
        assert result.items["acceptable"].mean() == pytest.approx(share)


def test_chosen_answers_are_acceptable_where_nothing_else_says_so() -> None:
    result = built(prompted(30))
    assert result.acceptability == "won more than half of its comparisons"
    assert (result.items["acceptable"] == result.items["response"].str.starts_with("yes")).all()


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


def test_one_labeler_by_chance_is_right_half_of_the_time() -> None:
    # All eight ways in which three people choose, once each: three of each unanimous one's votes are right,
    # the odd one out of the other six is wrong: 6 of 12.
    ways = [[choice(pair[0], pair[1], who) for pair, who in zip(way, ("w1", "w2", "w3"), strict=True)] for way in WAYS]
    only_test = SplitSettings(train=0, validation=0, calibration=0, test=1)
    result = built([group([f"A{i}", f"B{i}"], way, prompt=f"Q{i}") for i, way in enumerate(ways)], splits=only_test)
    assert result.one_labeler is not None
    assert result.one_labeler.value == pytest.approx(0.5)
    assert (result.one_labeler.count, result.one_labeler.unit) == (12, "comparisons")


def test_one_anonymous_rating_against_the_mean_of_the_others() -> None:
    # Every rating of a text is the same, so one rating orders texts as the others do, whichever is drawn.
    texts = [group([f"t{i}"], [rating(a=i)] * 3, prompt=None) for i in range(12)]
    only_test = SplitSettings(train=0, validation=0, calibration=0, test=1)
    result = built(texts, splits=only_test)
    assert result.one_labeler is not None
    assert (result.one_labeler.value, result.one_labeler.count, result.one_labeler.unit) == (1.0, 66, "pairs")
    assert (
        built([group([f"t{i}"], [rating(a=i)], prompt=None) for i in range(12)], splits=only_test).one_labeler is None
    )


def test_items_say_where_they_come_from_and_who_labeled_them() -> None:
    labels = [choice("a", "b"), choice("a", "c") | {"labeler_kind": "model"}]
    groups = [
        group(["A", "B", "C", "D"], labels, prompt="1", source="shop"),
        group(["E", "F"], [ranking("w", a=1, b=2)], prompt="2"),
    ]
    result = built(groups, splits=SplitSettings(train=1.0, validation=0, calibration=0, test=0))
    columns = result.items.select("response", "source", "labeler_kind")
    kinds = {text: (source, kind) for text, source, kind in columns.iter_rows()}
    assert kinds == {
        "A": ("shop", "mixed"),
        "B": ("shop", "human"),
        "C": ("shop", "model"),
        "E": (None, "human"),
        "F": (None, "human"),
    }


def test_divided_pairs_have_texts_votes_and_no_golden() -> None:
    split = [choice("a", "b", "u"), choice("a", "b", "v"), choice("b", "a", "w"), ranking("x", a=1, b=1)]
    groups = [group([f"yes {i}", "n" * 1000 + str(i)], split, prompt=f"Question {i}?") for i in range(30)]
    golden = frozenset(document_key(one) for one in groups[:20])
    result = built([*groups, *prompted(30)], golden=golden, reliability={"method": "none"})
    assert len(result.divided) == 10
    one = result.divided[0]
    assert {one.response_a[:1]: one.votes_a, one.response_b[:1]: one.votes_b} == {"y": 2, "n": 1}
    assert (one.ties, one.labelers) == (1, ["u", "v", "w", "x"])
    assert max(len(one.response_a), len(one.response_b)) == 600
    assert one.prompt.startswith("Question ")


def test_min_votes_counts_comparisons_and_not_their_weight() -> None:
    # Three of four people always agree, so that the fourth weighs less; the pair still has four comparisons.
    groups = [
        group(
            [f"A{i}", f"B{i}"],
            [choice(*("ab" if (who < "z") == (i % 2 == 0) or i % 8 == 0 else "ba"), who) for who in "uvwz"],
            prompt=f"Q{i}",
        )
        for i in range(80)
    ]
    result = built(groups, splits=SplitSettings(train=1.0, validation=0, calibration=0, test=0), min_votes=4)
    assert len(result.pairs) == 80
    assert result.pairs["votes"].max() < 4
