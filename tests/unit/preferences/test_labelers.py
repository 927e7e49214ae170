"""Labelers by pseudonym: agreement by hand, planted faults found and named, honest labelers left alone."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from rewardloop.config import ReliabilitySettings
from rewardloop.exact import exact_interval
from rewardloop.preferences.habits import independent
from rewardloop.preferences.labelers import (
    FIRST,
    LAST,
    LONGEST,
    RANDOM,
    REVERSED,
    holm,
    labeler_lines,
)
from tests.unit.preferences.crowd import crowd
from tests.unit.preferences.feedback import choice, frame, group, ranking
from tests.unit.preferences.test_reliability import opinions, weights_of


def test_planted_labelers_are_found_and_honest_ones_are_not() -> None:
    planted = crowd(
        {"good": 30, "random": 3, "reversed": 2, "first": 2, "last": 2, "longest": 2}, pairs=2500, votes=4, seed=1
    )
    found, _ = opinions(planted.frame)
    findings = dict(found.labelers.select("labeler", "findings").iter_rows())
    expected = {"random": RANDOM, "reversed": REVERSED, "first": FIRST, "last": LAST, "longest": LONGEST}
    assert findings == {name: [expected[kind]] if kind != "good" else [] for name, kind in planted.kinds.items()}
    weights = weights_of(found)
    for name, kind in planted.kinds.items():
        if kind in ("first", "last", "longest", "reversed"):
            assert weights[name] == 0.0, name


def test_findings_are_listed_though_votes_are_not_weighted() -> None:
    planted = crowd({"good": 12, "first": 1}, pairs=600)
    found, _ = opinions(planted.frame, ReliabilitySettings(method="none"))
    lines = {line.labeler: line for line in labeler_lines(found.labelers)}
    assert lines["first-0"].findings == [FIRST]
    assert set(weights_of(found).values()) == {1.0}
    assert lines["good-0"].reliability is None


def test_a_format_that_lists_the_chosen_first_accuses_nobody() -> None:
    # Each file lists what was chosen first, or answers in any order; people of the first file are no fools.
    sorted_file = [group([f"A{i}", f"B{i}"], [choice("a", "b", f"w{i % 3}")], prompt=f"Q{i}") for i in range(300)]
    other = crowd({"good": 6}, pairs=300)
    table = pl.concat([frame(sorted_file, "sorted"), other.frame])
    assert set(opinions(table)[0].labelers["findings"].list.len()) == {0}


def test_who_is_right_about_longer_answers_is_not_accused() -> None:
    # The longer answer is better in 95% of the pairs; one labeler is always right, the others in 80% of the pairs.
    random = np.random.default_rng(0)
    groups = []
    for i in range(800):
        a_is_better = bool(random.random() < 0.5)
        a_is_longer = (random.random() < 0.95) == a_is_better
        texts = [f"x{i}" + " more" * a_is_longer, f"y{i}" + " more" * (not a_is_longer)]
        says_a = [a_is_better, *((random.random(3) < 0.8) == a_is_better)]
        labels = [choice(*("ab" if one else "ba"), who=f"w{j}") for j, one in enumerate(says_a)]
        groups.append(group(texts, labels, prompt=f"Q{i}"))
    found, _ = opinions(frame(groups))
    best = found.labelers.filter(labeler="w0")
    assert best["findings"].to_list() == [[]]
    assert best["weight"][0] == found.labelers["weight"].max()


def test_agreement_with_the_others_by_hand() -> None:
    # Unweighted. Pair 1: u and v say A, w says B. For u the others are divided (a half), so for v; for w both are
    # against him (0). Pair 2: u and v say A: both agree (1). u: (1/2 + 1) / 2 = 3/4, w: 0 of 1.
    groups = [
        group(["A1", "B1"], [choice("a", "b", "u"), choice("a", "b", "v"), choice("b", "a", "w")], prompt="1"),
        group(["A2", "B2"], [choice("a", "b", "u"), choice("a", "b", "v")], prompt="2"),
    ]
    found, _ = opinions(frame(groups), ReliabilitySettings(method="none"))
    lines = {line.labeler: line for line in labeler_lines(found.labelers)}
    agreement = {name: line.agreement.value for name, line in lines.items() if line.agreement}
    assert agreement == {"u": 0.75, "v": 0.75, "w": 0.0}
    assert lines["u"].agreement is not None
    assert (lines["u"].votes, lines["u"].agreement.count) == (2, 2)
    assert lines["u"].kind == "human"


def test_alone_on_a_pair_there_is_no_agreement() -> None:
    found, _ = opinions(frame([group(["A", "B"], [choice("a", "b", "u")])]))
    assert labeler_lines(found.labelers)[0].agreement is None


def test_an_order_of_four_is_three_independent_comparisons() -> None:
    labels = [ranking(who, a=1, b=2, c=3, d=4) for who in ("u", "v")]
    found, _ = opinions(frame([group(["A", "B", "C", "D"], labels)]))
    (one, _) = labeler_lines(found.labelers)
    assert one.agreement is not None
    assert (one.votes, one.agreement.count) == (6, 3)
    table = pl.DataFrame({"who": [1] * 4, "bunch": [0, 0, 1, 1], "a": [1, 1, 5, 7], "b": [2, 3, 6, 8]})
    assert independent(table, ["who"])["independent"].to_list() == [4.0]  # 3 answers: 2; two pairs of strangers: 2


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (57, 80)])
def test_exact_interval_is_that_of_clopper_and_pearson(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(0.95, method="exact")
    low, high = exact_interval(np.array([hits / count, np.nan]), np.array([float(count), 0.0]), 0.95)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))
    assert np.isnan([low[1], high[1]]).all()


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4 = 0.04, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.5 * 1 = 0.5.
    assert holm(np.array([0.03, 0.01, 0.5, 0.02])).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_evidence_lists_everyone_with_findings_and_few_others() -> None:
    planted = crowd({"good": 70, "random": 1}, pairs=1500, votes=4)
    found, _ = opinions(planted.frame)
    lines = labeler_lines(found.labelers)
    assert lines[0].labeler == "random-0"
    assert lines[0].findings == [RANDOM]
    assert len(found.labelers) == 71
    assert len(lines) == 51
    assert [line.votes for line in lines[1:]] == sorted((line.votes for line in lines[1:]), reverse=True)
