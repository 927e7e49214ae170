"""Models and programs beside people: what their votes count, and what they may not decide."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from rewardloop.config import EvaluationSettings, ModelLabelerSettings, PreferenceSettings, SplitSettings
from rewardloop.preferences.agreement_gate import agreement_lines
from rewardloop.preferences.build import Preferences, build
from rewardloop.preferences.labelers import labeler_lines
from rewardloop.preferences.model_labelers import (
    ALL_ALIKE,
    BY_CHANCE,
    NOT_BY_PEOPLE,
    UNTRUSTED,
    feedback_of_people,
)
from rewardloop.preferences.opinions import NO_PERSON
from rewardloop.records import FeedbackGroup
from tests.unit.preferences.feedback import choice, frame, group, ranking, rating

TRAIN = SplitSettings(train=1.0, validation=0, calibration=0, test=0)
TEST = SplitSettings(train=0, validation=0, calibration=0, test=1.0)
CALIBRATION = SplitSettings(train=0, validation=0, calibration=1.0, test=0)
PEOPLE = ("ann", "ben", "cem")


def by(labeler: str | None, label: dict[str, Any], kind: str = "model") -> dict[str, Any]:
    return label | {"labeler": labeler, "labeler_kind": kind}


def judged(count: int, agrees: float, *, alone: int = 0, seed: int = 0) -> list[FeedbackGroup]:
    """``count`` pairs on which three people agree and a model with them in a share of ``agrees``; then ``alone`` pairs
    that the model alone judged."""
    random = np.random.default_rng(seed)
    groups = []
    for i in range(count + alone):
        better = "ab" if random.random() < 0.5 else "ba"
        said = better if random.random() < agrees else better[::-1]
        labels = [choice(*better, who=who) for who in PEOPLE] if i < count else []
        labels.append(by("judge", choice(*said)))
        groups.append(group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}"))
    return groups


def built(groups: list[FeedbackGroup], *, splits: SplitSettings = TRAIN, **preferences: Any) -> Preferences:
    return build(
        frame(groups),
        preferences=PreferenceSettings.model_validate(preferences),
        splits=splits,
        evaluation=EvaluationSettings(bootstrap_samples=100, min_rating_gap=0),
        golden=frozenset(),
    )


def line_of(result: Preferences, name: str = "judge") -> Any:
    return next(line for line in labeler_lines(result.opinions.labelers) if line.labeler == name)


def test_a_model_that_always_agrees_with_people_counts_as_a_person() -> None:
    line = line_of(built(judged(60, 1.0)))
    assert (line.kind, line.votes, line.weight) == ("model", 60, 1.0)
    assert line.alpha_with_people.value == 1.0
    assert (line.agreement.value, line.agreement.count) == (1.0, 60)


def test_a_models_weight_is_the_lower_end_of_its_alpha_with_people() -> None:
    result = built(judged(300, 0.8))
    line = line_of(result)
    # Two raters who differ on a fifth of the pairs of two balanced answers: alpha is about 1 - 0.2 / 0.5.
    assert line.alpha_with_people.value == pytest.approx(0.6, abs=0.1)
    assert line.weight == line.alpha_with_people.low
    assert 0.4 < line.weight < line.alpha_with_people.value
    assert "1 models or programs beside people" in result.opinions.words
    weights = result.opinions.votes.join(result.opinions.names, on="who").filter(labeler="judge")["weight"]
    assert weights.unique().to_list() == [line.weight]


def test_a_model_that_guesses_decides_nothing() -> None:
    result = built(judged(200, 0.5, alone=50))
    line = line_of(result)
    assert (line.weight, line.findings) == (0.0, [BY_CHANCE])
    assert len(result.pairs) == 200
    assert set(result.pairs["p"].to_list()) == {0.0, 1.0}
    assert result.left_out == {UNTRUSTED: 50}


def test_a_number_in_the_configuration_is_the_weight() -> None:
    result = built(judged(40, 0.9), model_labelers={"weight": 2.5})
    assert line_of(result).weight == 2.5


def test_agreement_on_few_pairs_is_not_known() -> None:
    line = line_of(built(judged(19, 1.0)))
    assert (line.weight, line.alpha_with_people) == (0.5, None)
    assert line_of(built(judged(19, 1.0), model_labelers={"min_shared": 19})).weight == 1.0


def test_agreement_on_nothing_but_ties_is_not_known() -> None:
    tie = ranking(a=1, b=1)
    groups = [group([f"A{i}", f"B{i}"], [tie | {"labeler": "ann"}, by("m", tie)], prompt=f"Q{i}") for i in range(30)]
    line = line_of(built(groups), "m")
    assert (line.weight, line.alpha_with_people, line.findings) == (0.5, None, [ALL_ALIKE])


def test_pairs_that_no_person_judged_are_trained_on_by_the_models_weight() -> None:
    result = built(judged(200, 0.9, alone=30))
    weight = line_of(result).weight
    assert sorted(set(result.pairs["weight"].to_list())) == [weight, 1.0]
    assert len(result.pairs.filter(weight=weight)) == 30


def test_pairs_that_no_person_judged_are_not_evaluated_on_unless_wanted() -> None:
    groups = judged(40, 1.0, alone=10)
    result = built(groups, splits=TEST)
    assert len(result.pairs) == 40
    assert result.left_out == {NOT_BY_PEOPLE: 10}
    assert len(built(groups, splits=TEST, model_labelers={"held_out": True}).pairs) == 50


def outvoted(count: int = 60, wrong: int = 6) -> list[FeedbackGroup]:
    """One person of three says in each pair that A is better; four models that count say of some that B is."""
    models = ("m1", "m2", "m3", "m4")
    return [
        group(
            [f"A{i}", f"B{i}"],
            [choice("a", "b", who=PEOPLE[i % 3])] + [by(who, choice(*("ba" if i < wrong else "ab"))) for who in models],
            prompt=f"Q{i}",
        )
        for i in range(count)
    ]


def test_models_that_err_alike_turn_no_pair_that_is_evaluated_on() -> None:
    result = built(outvoted(), splits=TEST, model_labelers={"weight": 0.7})
    assert len(result.pairs) == 60
    assert set(firsts(result)) == {1.0}
    assert set(result.pairs["votes"].to_list()) == {1.0}
    # They do have a vote in training.
    mixed = built(outvoted(), model_labelers={"weight": 0.7})
    assert sum(p < 0.5 for p in firsts(mixed)) == 6


def firsts(result: Preferences) -> list[float]:
    """P(A is better than B) of each pair."""
    named = result.pairs.join(result.items.select(a="item", first="response"), on="a")
    return [row["p"] if row["first"][0] == "A" else 1 - row["p"] for row in named.iter_rows(named=True)]


@pytest.mark.parametrize("splits", [CALIBRATION, TEST, TRAIN])
def test_models_that_err_alike_do_not_decide_what_is_acceptable(splits: SplitSettings) -> None:
    items = built(outvoted(), splits=splits, model_labelers={"weight": 0.7}).items
    assert len(items) == 120
    assert (items["acceptable"] == items["response"].str.starts_with("A")).all()


def test_pairs_that_divide_people_are_shown_as_people_judged_them() -> None:
    labels = [choice("a", "b", who="ann"), choice("b", "a", who="ben"), by("m", choice("a", "b"))]
    groups = [group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}") for i in range(3)]
    assert {pair.p for pair in built(groups).divided} == {0.5}


def test_where_people_compare_a_models_ratings_are_not_taken_for_theirs() -> None:
    groups = [
        group([f"A{i}", f"B{i}"], [choice("a", "b", who="ann"), by("m", rating(a=2, b=9))], prompt=f"Q{i}")
        for i in range(30)
    ]
    result = built(groups, splits=CALIBRATION, acceptable_rating=5.0)
    assert result.acceptability == "won more than half of its comparisons"
    assert result.items["rating"].null_count() == 60
    assert (result.items["acceptable"] == result.items["response"].str.starts_with("A")).all()


def test_what_is_acceptable_is_never_said_by_models_where_people_judged_others() -> None:
    """Not even with ``held_out``, which is about the pairs that are evaluated on."""
    result = built(judged(40, 1.0, alone=10), splits=CALIBRATION, model_labelers={"held_out": True})
    assert len(result.items) == 80
    assert sum(result.left_out.values()) == 10


def test_where_no_person_judged_models_are_labelers_like_any_others() -> None:
    groups = [
        group([f"A{i}", f"B{i}"], [by(who, choice("a", "b")) for who in PEOPLE], prompt=f"Q{i}") for i in range(20)
    ]
    result = built(groups, splits=TEST)
    assert len(result.pairs) == 20
    assert set(result.pairs["weight"].to_list()) == {1.0}
    assert line_of(result, "ann").alpha_with_people is None
    assert result.opinions.words.endswith(NO_PERSON)
    assert NO_PERSON not in built(judged(20, 1.0)).opinions.words


def test_peoples_reliability_does_not_depend_on_models() -> None:
    groups = judged(100, 0.3)
    alone = [one.model_copy(update={"labels": one.labels[:-1]}) for one in groups]
    columns = ["labeler", "weight", "q", "agreement", "low", "high"]
    with_model = built(groups).opinions.labelers.filter(labeler_kind="human").select(columns)
    assert with_model.equals(built(alone).opinions.labelers.select(columns))


def test_all_programs_without_identity_are_one_labeler() -> None:
    groups = [
        group(
            [f"A{i}", f"B{i}"],
            [choice("a", "b", who="ann"), choice("a", "b", who="ben"), by(None, choice("a", "b"), "signal")],
            prompt=f"Q{i}",
        )
        for i in range(30)
    ]
    line = line_of(built(groups), "signal without identity")
    assert (line.kind, line.votes, line.weight) == ("signal", 30, 1.0)


def test_ratings_of_models_do_not_enter_peoples_means_nor_what_is_acceptable() -> None:
    groups = [
        group([f"A{i}", f"B{i}"], [rating("ann", a=4, b=1), by("judge", rating(a=90, b=95))], prompt=f"Q{i}")
        for i in range(10)
    ] + [group(["C", "D"], [by("judge", rating(a=90, b=95))], prompt="Qx")]
    items = built(groups, acceptable_rating=3.0).items.sort("response")
    rows = {row["response"][0]: (row["rating"], row["acceptable"]) for row in items.iter_rows(named=True)}
    assert rows == {"A": (4.0, True), "B": (1.0, False), "C": (None, None), "D": (None, None)}


def test_where_people_rated_one_by_one_a_models_votes_do_not_replace_them() -> None:
    """Nobody of the people judged both answers, yet their ratings say that a is better in every pair."""
    groups = [
        group(
            [f"A{i}", f"B{i}"],
            [rating(f"x{i}", a=4), rating(f"y{i}", b=1), by("judge", ranking(a=2, b=1))],
            prompt=f"Q{i}",
        )
        for i in range(30)
    ]
    result = built(groups)
    p = result.pairs.join(result.items.select(a="item", first="response"), on="a")
    assert [row["p"] if row["first"][0] == "A" else 1 - row["p"] for row in p.iter_rows(named=True)] == [1.0] * 30
    assert line_of(result).weight == 0.0


def test_agreement_among_labelers_is_that_of_people() -> None:
    groups = judged(60, 0.0)
    [line] = agreement_lines(feedback_of_people(frame(groups)), PreferenceSettings())
    assert (line.alpha, line.labelers) == (1.0, 3)


def test_criteria_that_only_programs_judged_keep_their_labels() -> None:
    rows = frame(
        [
            group(
                ["A", "B"],
                [choice("a", "b", who="ann"), by("rule", rating(a=1, b=0) | {"criterion": "length"}, "signal")],
            )
        ]
    )
    assert feedback_of_people(rows).equals(rows)
    mixed = frame([group(["A", "B"], [choice("a", "b", who="ann"), by("m", choice("b", "a"))])])
    kept = feedback_of_people(mixed).select(pl.col("labels").explode()).unnest("labels")
    assert kept["labeler"].to_list() == ["ann"]


def test_weights_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        ModelLabelerSettings(weight=-1)
