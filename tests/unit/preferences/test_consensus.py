"""p and votes of a pair, worked by hand for every kind of label and mixture."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardloop.preferences.answers import unfold
from rewardloop.preferences.consensus import consensus, p_error, shares, votes
from rewardloop.preferences.groups import pairs_inside
from rewardloop.preferences.superiority import on_one_scale, superiority
from tests.unit.preferences.feedback import choice, frame, group, ranking, rating


def judged(labels: list[dict[str, Any]], texts: tuple[str, ...] = ("A", "B", "C")) -> dict[str, tuple[float, float]]:
    """ "AB" -> (p, votes) of a group of the given answers."""
    taken = unfold(frame([group(list(texts), labels)]))
    pairs = pairs_inside(taken.answers, "group")
    found = consensus(pairs, votes(pairs, taken.values), taken.values)
    names = dict(taken.answers.select("answer", "response").iter_rows())
    return {names[a] + names[b]: (p, count) for a, b, p, count in found.select("a", "b", "p", "votes").iter_rows()}


def test_what_a_named_labeler_said_in_two_exports_counts_once() -> None:
    first = group(["A"], [rating("w1", a=5), rating(None, a=1)])
    second = group(["A"], [rating("w1", a=5), rating("w2", a=4), rating(None, a=1)])
    later = group(["A"], [rating("w1", a=2)])
    values = unfold(frame([first, second, later])).values.sort("labeler", "value")
    assert values.select("labeler", "value").rows() == [(None, 1.0), (None, 1.0), ("w1", 2.0), ("w1", 5.0), ("w2", 4.0)]
    verdict = {"kind": "acceptable", "values": {"a": True}, "labeler": "w1"}
    again = unfold(frame([group(["A"], [verdict]), group(["A"], [verdict, rating("w2", a=1)])])).values
    assert again.filter(kind="acceptable").height == 1


def test_what_was_said_twice_has_the_weight_of_the_last_time() -> None:
    first, second = group(["A"], [rating("w1", a=5)]), group(["A"], [rating("w1", a=5), rating("w2", a=4)])
    for weights in ([0.25, 1.0], [1.0, 0.25]):
        rows = frame([first, second]).with_columns(weight=pl.Series(weights))
        assert unfold(rows).values.filter(labeler="w1")["weight"].to_list() == [1.0]


def test_choices_are_votes() -> None:
    assert judged([choice("a", "b", "w1"), choice("a", "b", "w2"), choice("b", "a", "w3")]) == {"AB": (2 / 3, 3)}


def test_anonymous_choices_each_count() -> None:
    assert judged([choice("a", "b"), choice("a", "b"), choice("b", "a"), choice("a", "b")]) == {"AB": (0.75, 4)}


def test_ranking_gives_every_pair_and_keeps_ties() -> None:
    assert judged([ranking("w1", a=1, b=2, c=2)]) == {"AB": (1.0, 1), "AC": (1.0, 1), "BC": (0.5, 1)}


def test_partial_ranking_says_nothing_of_the_rest() -> None:
    assert judged([ranking("w1", a=2, c=1)]) == {"AC": (0.0, 1)}


def test_choices_of_one_labeler_say_nothing_of_pairs_that_were_not_shown() -> None:
    labels = [choice("a", "b", "w1"), choice("c", "d", "w1")]
    assert judged(labels, ("A", "B", "C", "D")) == {"AB": (1.0, 1), "CD": (1.0, 1)}


def test_ranks_of_two_lists_cannot_be_compared() -> None:
    labels = [ranking("w1", a=1, b=2), ranking("w1", c=1, d=2)]
    assert judged(labels, ("A", "B", "C", "D")) == {"AB": (1.0, 1), "CD": (1.0, 1)}


def test_kinds_of_one_labeler_are_one_vote_together() -> None:
    # w1's ranking says A, his ratings are a tie: three quarters of one vote. w2 says B.
    labels = [ranking("w1", a=1, b=2), rating("w1", a=3, b=3), choice("b", "a", "w2")]
    assert judged(labels) == {"AB": (0.375, 2)}


def test_ratings_compare_within_the_labeler_across_labels() -> None:
    # w1 likes everything, w2 nothing; each prefers A, though w2's A is below w1's B.
    labels = [rating("w1", a=5), rating("w1", b=4), rating("w2", a=2, b=1)]
    assert judged(labels) == {"AB": (1.0, 2)}


def test_one_label_of_an_anonymous_labeler_is_one_person() -> None:
    assert judged([rating(None, a=5, b=1), rating(None, a=2, b=2)]) == {"AB": (0.75, 2)}


def test_without_a_common_labeler_every_rating_meets_every_other() -> None:
    # A: 3, 1; B: 2, 1. Of four meetings: 3>2, 3>1, 1<2, 1=1 -> 2.5 of 4.
    labels = [rating("w1", a=3), rating("w2", a=1), rating("w3", b=2), rating("w4", b=1)]
    assert judged(labels) == {"AB": (2.5 / 4, 2)}


def test_one_common_labeler_outweighs_strangers() -> None:
    labels = [rating("w1", a=1, b=2), rating("w2", a=5), rating("w3", b=0)]
    assert judged(labels) == {"AB": (0.0, 1)}


def test_a_labeler_who_says_it_twice_has_one_vote() -> None:
    labels = [choice("a", "b", "w1"), ranking("w1", a=1, b=2), choice("b", "a", "w2")]
    assert judged(labels) == {"AB": (0.5, 2)}


def test_a_labeler_who_contradicts_himself_is_a_tie() -> None:
    assert judged([choice("a", "b", "w1"), choice("b", "a", "w1")]) == {"AB": (0.5, 1)}


def test_verdicts_prefer_the_acceptable() -> None:
    labels = [
        {"kind": "acceptable", "values": {"a": True, "b": False}, "labeler": "w1"},
        {"kind": "acceptable", "values": {"c": True}},
    ]
    assert judged(labels) == {"AB": (1.0, 1), "AC": (0.5, 1), "BC": (0.0, 1)}


def test_the_same_group_in_two_batches_adds_its_labels() -> None:
    swapped = group(["B", "A"], [choice("b", "a", "w2")], group_id="other")  # here b is called A
    taken = unfold(frame([group(["A", "B"], [choice("a", "b", "w1")]), swapped]))
    assert len(taken.groups) == 1
    assert votes(pairs_inside(taken.answers, "group"), taken.values)["vote"].to_list() == [1.0, 1.0]


def test_texts_of_different_groups_are_compared_within_the_labeler_who_rated_both() -> None:
    texts = [
        group(["A"], [rating("harsh", a=2), rating("mild", a=8)], prompt=None),
        group(["B"], [rating("harsh", a=1)], prompt=None),
        group(["C"], [rating("mild", a=9), rating("mild", a=6), rating(None, a=3)], prompt=None),
    ]
    taken = unfold(frame(texts))
    pairs = taken.answers.join(taken.answers, how="cross", suffix="_b").filter(pl.col("answer") < pl.col("answer_b"))
    pairs = pairs.select(pl.col("answer").alias("a"), pl.col("answer_b").alias("b"))
    found = consensus(pairs, votes(pairs, taken.values), taken.values)
    names = dict(taken.answers.select("answer", "response").iter_rows())
    p = {
        frozenset((names[a], names[b])): (names[a], p, n) for a, b, p, n in found.select("a", "b", "p", "votes").rows()
    }
    first, value, count = p[frozenset("AB")]  # harsh rated both, and A higher, though B has fewer ratings
    assert (value if first == "A" else 1 - value, count) == (1.0, 1)
    first, value, count = p[frozenset("AC")]  # mild rated both: 8 against the mean of 9 and 6
    assert (value if first == "A" else 1 - value, count) == (1.0, 1)
    first, value, count = p[frozenset("BC")]  # nobody rated both: 1 against 9, 6, 3
    assert (value if first == "B" else 1 - value, count) == (0.0, 1)


LABEL = st.one_of(
    st.builds(
        lambda who, ranks: ranking(who, **dict(zip("abc", ranks, strict=True))),
        st.sampled_from(["w1", "w2", None]),
        st.tuples(*[st.integers(1, 3)] * 3),
    ),
    st.builds(
        lambda who, pair: choice(pair[0], pair[1], who),
        st.sampled_from(["w1", "w2", None]),
        st.permutations("abc"),
    ),
    st.builds(
        lambda who, scores: rating(who, **scores),
        st.sampled_from(["w1", "w2", "w3", None]),
        st.dictionaries(st.sampled_from("abc"), st.integers(1, 4), min_size=1),
    ),
    st.builds(
        lambda who, values: {"kind": "acceptable", "labeler": who, "values": values},
        st.sampled_from(["w1", "w2", "w3", None]),
        st.dictionaries(st.sampled_from("abc"), st.booleans(), min_size=1),
    ),
)


def slow_reference(labels: list[dict[str, Any]], a: str, b: str) -> tuple[float, float] | None:
    """p and votes of one pair, the way one would say it: person by person, sheet by sheet."""
    people: dict[object, dict[object, list[dict[str, float]]]] = {}
    for number, label in enumerate(labels):
        who = label["labeler"] or number
        kind = label["kind"]
        absolute = kind in ("rating", "acceptable")
        if kind == "choice":
            values = {label["chosen"]: 1.0, label["rejected"]: 0.0}
        elif kind == "ranking":
            values = {key: -rank for key, rank in label["ranks"].items()}
        else:
            values = {key: float(value) for key, value in label["scores" if kind == "rating" else "values"].items()}
        people.setdefault(who, {}).setdefault((kind, None if absolute else number), []).append(values)
    cast = []
    for sheets in people.values():
        opinions = []
        for sheet in sheets.values():
            of_a, of_b = [one[a] for one in sheet if a in one], [one[b] for one in sheet if b in one]
            if of_a and of_b:
                opinions.append((np.sign(np.mean(of_a) - np.mean(of_b)) + 1) / 2)
        if opinions:
            cast.append(np.mean(opinions))
    if cast:
        return float(np.mean(cast)), len(cast)
    for kind, key in (("rating", "scores"), ("acceptable", "values")):
        of_a, of_b = ([label[key][x] for label in labels if label["kind"] == kind and x in label[key]] for x in (a, b))
        if of_a and of_b:
            return float(np.mean([(x > y) + (x == y) / 2 for x in of_a for y in of_b])), min(len(of_a), len(of_b))
    return None


@settings(max_examples=150, deadline=None)
@given(st.lists(LABEL, min_size=1, max_size=6))
def test_any_mixture_equals_the_slow_reference(labels: list[dict[str, Any]]) -> None:
    found = judged(labels)
    for a, b in ("AB", "AC", "BC"):
        expected = slow_reference(labels, a.lower(), b.lower())
        if expected is None:
            assert a + b not in found
        else:
            assert found[a + b] == pytest.approx(expected)


ratings = st.lists(st.integers(-4, 4), min_size=1, max_size=6)


@given(st.lists(ratings, min_size=2, max_size=5))
def test_superiority_equals_counting(given_ratings: list[list[int]]) -> None:
    rows = [(answer, value) for answer, values in enumerate(given_ratings) for value in values]
    table = pl.DataFrame(rows, schema={"answer": pl.UInt32, "value": pl.Float64}, orient="row")
    pairs = [(a, b) for a in range(len(given_ratings)) for b in range(a + 1, len(given_ratings))]
    p, effective, count = superiority(pl.DataFrame(pairs, schema={"a": pl.UInt32, "b": pl.UInt32}, orient="row"), table)
    for (a, b), found, least in zip(pairs, p, count, strict=True):
        meetings = [(x > y) + (x == y) / 2 for x in given_ratings[a] for y in given_ratings[b]]
        assert found == pytest.approx(np.mean(meetings))
        assert least == min(len(given_ratings[a]), len(given_ratings[b]))
    assert effective == pytest.approx(count)


def rated(table: dict[int, list[tuple[float, float]]]) -> pl.DataFrame:
    """Answer -> (rating, weight)."""
    rows = [(answer, *one) for answer, ones in table.items() for one in ones]
    return pl.DataFrame(rows, schema={"answer": pl.UInt32, "value": pl.Float64, "weight": pl.Float64}, orient="row")


def test_superiority_with_weights_by_hand() -> None:
    # a: 2 (weight 3), 4 (weight 1); b: 3 (weight 1), 2 (weight 2). Meetings won: 2=2: 3*2/2 = 3; 4>3: 1; 4>2: 2.
    # 6 of 4 * 3 = 12. Effective: a (3 + 1)^2 / (9 + 1) = 1.6, b 9 / 5 = 1.8.
    table = rated({0: [(2, 3), (4, 1)], 1: [(3, 1), (2, 2)]})
    found = superiority(pl.DataFrame({"a": [0], "b": [1]}), table)
    assert [float(one[0]) for one in found] == pytest.approx([0.5, 1.6, 2.0])


def test_superiority_by_meeting_and_by_histogram_are_one() -> None:
    random = np.random.default_rng(1)
    answer, weight = random.integers(0, 12, 60), random.random(60)
    pairs = pl.DataFrame([(a, b) for a in range(12) for b in range(a)], schema=["a", "b"], orient="row")
    values = random.integers(0, 4, 60).astype(float)
    table = pl.DataFrame({"answer": answer, "value": values, "weight": weight})
    # Many values on an answer of its own make every rating meet every other.
    wide = pl.concat([table, pl.DataFrame({"answer": [99] * 1, "value": [9.0], "weight": [1.0]})])
    many = pl.DataFrame({"answer": np.arange(200) + 100, "value": np.arange(200) + 10.0, "weight": np.ones(200)})
    for one, other in zip(superiority(pairs, wide), superiority(pairs, pl.concat([wide, many])), strict=True):
        np.testing.assert_allclose(one, other)


def test_ratings_that_do_not_count_are_taken_where_there_is_nothing_else() -> None:
    pair = pl.DataFrame({"a": [0], "b": [1]})
    table = rated({0: [(5, 0), (5, 0)], 1: [(1, 1), (9, 0)]})
    assert [float(one[0]) for one in superiority(pair, table)] == pytest.approx([1.0, 1.0, 2.0])


def test_weighted_share_and_its_error_by_hand() -> None:
    # Votes 1, 0, 1/2 of weights 2, 1, 1: p = 2.5 / 4; votes = 16 / 6. With weights 0, 0, 0 all count the same.
    places = {"a": [0, 0, 0, 2, 2, 2], "b": [1, 1, 1, 3, 3, 3]}
    cast = pl.DataFrame({**places, "vote": [1.0, 0.0, 0.5] * 2, "weight": [2.0, 1.0, 1.0, 0.0, 0.0, 0.0]})
    found = shares(cast).sort("a")
    assert found["p"].to_list() == pytest.approx([0.625, 0.5])
    assert found["votes"].to_list() == pytest.approx([16 / 6, 3])
    assert found["comparisons"].to_list() == [3, 3]
    # One vote for a: p' = 2/3, the error sqrt(2/9 / 3). A hundred: p' = 101/102.
    table = pl.DataFrame({"p": [1.0, 1.0, 0.5], "votes": [1.0, 100.0, 2.0]})
    error = table.select(p_error(pl.col("p"), pl.col("votes")).alias("e"))["e"].to_list()
    assert error == pytest.approx([math.sqrt(2 / 27), math.sqrt(101 / 102**2 / 102), 0.25])


def test_ratings_are_standardized_within_the_labeler() -> None:
    # u: 1, 3; v: 7, 9, 8; mean 5.6. Without a prior: (x - 2) / 1 and (x - 8) / sqrt(2/3).
    texts = [
        group([f"T{i}"], [rating(who, a=value)], prompt=None)
        for i, (who, value) in enumerate([("u", 1), ("u", 3), ("v", 7), ("v", 9), ("v", 8)])
    ]
    values = unfold(frame(texts)).values.sort("who", "value")
    plain = on_one_scale(values, 0)["value"].to_list()
    assert plain == pytest.approx([-1, 1, -math.sqrt(1.5), 0, math.sqrt(1.5)])
    # With a prior of 2: levels (4 + 11.2) / 4 and (24 + 11.2) / 5; overall variance 8.64.
    first = on_one_scale(values, 2)["value"][0]
    assert first == pytest.approx((1 - 3.8) / math.sqrt((2 * 1 + 2 * 9.44) / 4))
    anonymous = pl.concat([values, values.head(1).with_columns(pl.lit(None, pl.String).alias("labeler"))])
    assert on_one_scale(anonymous, 2).equals(anonymous)


def test_one_rating_each_is_no_reason_to_call_all_alike() -> None:
    texts = [group([f"T{i}"], [rating(f"w{i}", a=i)], prompt=None) for i in range(4)]
    values = on_one_scale(unfold(frame(texts)).values, 20)
    assert values.sort("who")["value"].is_sorted()
    assert values["value"].n_unique() == 4


def test_constant_labelers_say_nothing() -> None:
    texts = [group([f"T{i}"], [rating("same", a=4), rating("w", a=i)], prompt=None) for i in range(5)]
    values = on_one_scale(unfold(frame(texts)).values, 0)
    assert set(values.filter(labeler="same")["value"]) == {0.0}


def test_positions_in_the_record_reach_the_votes() -> None:
    # "B" < "C" by text; the record lists C first. In another record of the same group it is the other way.
    one = group(["C", "B"], [choice("a", "b", "u")])
    other = group(["B", "C"], [choice("a", "b", "v")])
    taken = unfold(frame([one, other]))
    cast = votes(pairs_inside(taken.answers, "group"), taken.values).sort("who")
    assert cast["vote"].to_list() == [0.0, 1.0]
    assert cast["first"].to_list() == [-1.0, 1.0]
    rated_apart = [group(["A"], [rating("u", a=1)], prompt=None), group(["B"], [rating("u", a=2)], prompt=None)]
    taken = unfold(frame(rated_apart))
    pair = pl.DataFrame({"a": [0], "b": [1]}, schema={"a": pl.UInt32, "b": pl.UInt32})
    assert votes(pair, taken.values)["first"].to_list() == [None]


def test_superiority_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({"answer": random.integers(0, 40, 400).astype(np.uint32), "value": random.normal(size=400)})
    pairs = pl.DataFrame(
        [(a, b) for a in range(40) for b in range(a + 1, 40)], schema={"a": pl.UInt32, "b": pl.UInt32}, orient="row"
    )
    # 400 distinct values, at most a few ratings each: every rating meets every other; rounded, histograms do it.
    for ratings_ in (table, table.with_columns(pl.col("value").round())):
        whole = superiority(pairs, ratings_)
        with monkeypatch.context() as patch:
            patch.setattr("rewardloop.preferences.superiority._CELLS", 5000)
            np.testing.assert_allclose(superiority(pairs, ratings_), whole)
        a, b = (ratings_.filter(answer=answer)["value"].to_numpy() for answer in (3, 7))
        here = pairs.with_row_index().filter(a=3, b=7)["index"][0]
        assert whole[0][here] == pytest.approx(((a[:, None] > b) + (a[:, None] == b) / 2).mean())
