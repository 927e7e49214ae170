"""Reliability: weights by hand, planted labelers found, and the weighted share beats the majority."""

import math

import numpy as np
import polars as pl
import pytest

from rewardloop.config import ReliabilitySettings
from rewardloop.preferences.answers import unfold
from rewardloop.preferences.consensus import consensus, votes
from rewardloop.preferences.groups import pairs_inside
from rewardloop.preferences.opinions import Opinions, gather
from rewardloop.preferences.reliability import _weights, reliability
from tests.unit.preferences.crowd import Crowd, crowd
from tests.unit.preferences.feedback import choice, frame, group, ranking, two_segments

SETTINGS = ReliabilitySettings()
ISSUE = {"good": 35, "random": 10, "reversed": 5}


def opinions(feedback: pl.DataFrame, settings: ReliabilitySettings = SETTINGS) -> tuple[Opinions, pl.DataFrame]:
    """The weighed opinions, and the pairs of the feedback's groups with their consensus."""
    taken = unfold(feedback)
    pairs = pairs_inside(taken.answers, "group").rename({"group": "bunch"})
    found = gather(pairs, taken.answers, taken.values, everybody=taken.values, settings=settings, seed=0)
    return found, consensus(pairs, found.votes, found.values)


def accuracy(pairs: pl.DataFrame, planted: Crowd) -> float:
    """Share of pairs whose p is on the side of the truth, ties one half."""
    answers = unfold(planted.frame).answers.select("answer", "response")
    x = pl.col("response").str.starts_with("x")  # the a of the record
    sides = pairs.join(answers.with_columns(x.alias("x")), left_on="a", right_on="answer").with_columns(
        pl.col("response").str.extract(r"(\d+)").cast(pl.Int64).alias("pair")
    )
    better = planted.a_is_better[sides["pair"].to_numpy()] == sides["x"].to_numpy()
    p = sides["p"].to_numpy()
    return float(np.where(p == 0.5, 0.5, (p > 0.5) == better).mean())


def weights_of(found: Opinions) -> dict[str, float]:
    return dict(found.labelers.select("labeler", "weight").iter_rows())


def test_weights_by_hand() -> None:
    # Two labelers, 30 and 10 votes, right in 0.9 and 0.5 of them: the mean over votes is (27 + 5) / 40 = 0.8.
    # With 10 average votes more: (27 + 8) / 40 = 0.875 and (5 + 8) / 20 = 0.65. Their log odds are log 7 and
    # log 13/7, and the weights are those over their mean.
    right = pl.DataFrame({"who": [1, 2], "segment": [None, None], "n": [30, 10], "right": [0.9, 0.5]})
    found = _weights(right.cast({"segment": pl.String}), ReliabilitySettings(prior_votes=10))
    assert found["q"].to_list() == pytest.approx([0.875, 0.65])
    odds = math.log(7), math.log(13 / 7)
    assert found["weight"].to_list() == pytest.approx([2 * one / sum(odds) for one in odds])


def test_nobody_is_surer_than_all_votes_together_allow() -> None:
    right = pl.DataFrame({"who": [1, 2], "segment": ["s", "s"], "n": [6, 12], "right": [1.0, 1.0]})
    found = _weights(right, SETTINGS)
    assert found["q"].to_list() == pytest.approx([1 - 1 / 20] * 2)
    assert found["weight"].to_list() == pytest.approx([1.0, 1.0])


def test_worse_than_chance_counts_nothing() -> None:
    right = pl.DataFrame({"who": [1, 2, 3], "segment": ["s"] * 3, "n": [1000] * 3, "right": [0.9, 0.9, 0.1]})
    assert _weights(right, SETTINGS)["weight"].to_list() == pytest.approx([1.5, 1.5, 0.0])


def test_the_weighted_share_beats_the_majority() -> None:
    planted = crowd(ISSUE, pairs=3000)
    found, pairs = opinions(planted.frame)
    _, plain = opinions(planted.frame, ReliabilitySettings(method="none"))
    assert len(pairs) == len(plain) == 3000
    assert accuracy(pairs, planted) - accuracy(plain, planted) >= 0.05
    weights = weights_of(found)
    for kind, low, high in (("good", 0.9, 2.0), ("random", 0.0, 0.5), ("reversed", 0.0, 0.01)):
        of_kind = np.array([weights[name] for name, planted_kind in planted.kinds.items() if planted_kind == kind])
        assert low <= of_kind.mean() <= high, kind


def test_reliability_is_near_the_planted_one() -> None:
    planted = crowd({"good": 20}, pairs=2000, right=0.8)
    found, _ = opinions(planted.frame)
    assert found.labelers["q"].mean() == pytest.approx(0.8, abs=0.03)
    assert found.labelers["weight"].mean() == pytest.approx(1.0)


def test_ties_are_votes_and_no_errors() -> None:
    # Everybody agrees on who wins, or that it is a tie.
    groups = [
        group([f"A{i}", f"B{i}"], [ranking(f"w{j}", a=1, b=1 + i % 2) for j in range(3)], prompt=f"Q{i}")
        for i in range(40)
    ]
    found, pairs = opinions(frame(groups))
    assert found.labelers["q"].min() > 0.95
    assert sorted(set(pairs["p"])) in ([0.0, 0.5, 1.0], [0.5, 1.0])
    assert (pairs["votes"] - 3).abs().max() < 1e-9


def test_a_minority_that_agrees_with_itself_keeps_its_weight() -> None:
    # The same pairs, judged by 12 people of one segment and 4 of another, who all prefer the opposite.
    groups = two_segments(40)
    found, pairs = opinions(frame(groups))
    assert set(weights_of(found).values()) == {1.0}
    assert set(found.labelers["findings"].list.len()) == {0}
    assert np.allclose(np.minimum(pairs["p"], 1 - pairs["p"]), 0.25)
    assert found.between["big"]["small"].value == 0.0
    assert found.between["big"]["small"].count == 40
    together = frame([one.model_copy(update={"segment": None}) for one in groups])
    weights = weights_of(opinions(together)[0])
    assert weights["small0"] == 0.0
    assert weights["big0"] == pytest.approx(16 / 12)


@pytest.mark.parametrize(
    ("people", "words"),
    [
        ([None, None, None], "no labeler with an identity"),
        (["w1", None, None], "no pair was judged by two labelers of a segment with three"),
        (["w1", "w2", None], "no pair was judged by two labelers of a segment with three"),
    ],
)
def test_without_overlap_every_vote_counts_the_same(people: list[str | None], words: str) -> None:
    groups = [group([f"A{i}", f"B{i}"], [choice("a", "b", who) for who in people], prompt=f"Q{i}") for i in range(20)]
    found, pairs = opinions(frame(groups))
    assert words in found.words
    assert set(pairs["votes"]) == {3.0}


def test_few_shared_votes_count_one() -> None:
    groups = [group([f"A{i}", f"B{i}"], [choice("a", "b", w) for w in "uvw"], prompt=f"Q{i}") for i in range(4)]
    found, _ = opinions(frame(groups))
    assert "no labeler has 5 decided votes" in found.words
    assert weights_of(found) == {"u": 1.0, "v": 1.0, "w": 1.0}


def test_the_sample_is_capped_and_keeps_its_overlap() -> None:
    planted = crowd({"good": 3}, pairs=200)
    taken = unfold(planted.frame)
    cast = votes(pairs_inside(taken.answers, "group"), taken.values)
    found = reliability(cast, ReliabilitySettings(max_votes_per_labeler=50), seed=0)
    assert "from 150 votes" in found.words, "three labelers with 50 votes each, on the same 50 pairs"
    again = reliability(cast, ReliabilitySettings(max_votes_per_labeler=50), seed=0)
    assert found.labelers.equals(again.labelers)
