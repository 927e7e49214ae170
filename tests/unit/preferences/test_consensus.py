"""p and votes of a pair, worked by hand for every kind of label and mixture."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardloop.preferences.answers import unfold
from rewardloop.preferences.consensus import consensus, superiority, votes
from rewardloop.preferences.groups import pairs_inside
from tests.unit.preferences.feedback import choice, frame, group, ranking, rating


def judged(labels: list[dict[str, Any]], texts: tuple[str, ...] = ("A", "B", "C")) -> dict[str, tuple[float, float]]:
    """ "AB" -> (p, votes) of a group of the given answers."""
    taken = unfold(frame([group(list(texts), labels)]))
    pairs = pairs_inside(taken.answers, "group")
    found = consensus(pairs, votes(taken.values), taken.values)
    names = dict(taken.answers.select("answer", "response").iter_rows())
    return {names[a] + names[b]: (p, count) for a, b, p, count in found.select("a", "b", "p", "votes").iter_rows()}


def test_choices_are_votes() -> None:
    assert judged([choice("a", "b", "w1"), choice("a", "b", "w2"), choice("b", "a", "w3")]) == {"AB": (2 / 3, 3)}


def test_anonymous_choices_each_count() -> None:
    assert judged([choice("a", "b"), choice("a", "b"), choice("b", "a"), choice("a", "b")]) == {"AB": (0.75, 4)}


def test_ranking_gives_every_pair_and_keeps_ties() -> None:
    assert judged([ranking("w1", a=1, b=2, c=2)]) == {"AB": (1.0, 1), "AC": (1.0, 1), "BC": (0.5, 1)}


def test_partial_ranking_says_nothing_of_the_rest() -> None:
    assert judged([ranking("w1", a=2, c=1)]) == {"AC": (0.0, 1)}


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
    assert votes(taken.values)["vote"].to_list() == [1.0, 1.0]


ratings = st.lists(st.integers(-4, 4), min_size=1, max_size=6)


@given(st.lists(ratings, min_size=2, max_size=5))
def test_superiority_equals_counting(given_ratings: list[list[int]]) -> None:
    rows = [(answer, value) for answer, values in enumerate(given_ratings) for value in values]
    table = pl.DataFrame(rows, schema={"answer": pl.UInt32, "value": pl.Float64}, orient="row")
    pairs = [(a, b) for a in range(len(given_ratings)) for b in range(a + 1, len(given_ratings))]
    p, count = superiority(pl.DataFrame(pairs, schema={"a": pl.UInt32, "b": pl.UInt32}, orient="row"), table)
    for (a, b), found, least in zip(pairs, p, count, strict=True):
        meetings = [(x > y) + (x == y) / 2 for x in given_ratings[a] for y in given_ratings[b]]
        assert found == pytest.approx(np.mean(meetings))
        assert least == min(len(given_ratings[a]), len(given_ratings[b]))


def test_superiority_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({"answer": random.integers(0, 40, 400).astype(np.uint32), "value": random.normal(size=400)})
    pairs = pl.DataFrame(
        [(a, b) for a in range(40) for b in range(a + 1, 40)], schema={"a": pl.UInt32, "b": pl.UInt32}, orient="row"
    )
    whole = superiority(pairs, table)
    monkeypatch.setattr("rewardloop.preferences.consensus._CELLS", 5000)
    np.testing.assert_allclose(superiority(pairs, table), whole)
