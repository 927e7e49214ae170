"""Reasons to stop: each by its name, and none where nothing is wrong."""

from dataclasses import replace

import pytest

from rewardloop.config import KlSettings, StopSettings
from rewardloop.evidence import ValidationRewardPoint
from rewardloop.training.collapse import TextFacts, collapsed, facts_of, over_budget, plateau

STOP = StopSettings()
REFERENCE = TextFacts(answers=20, length=40.0, unfinished=0.2, distinct_bigrams=0.8, empty=0.0)


def test_facts_of_answers_worked_by_hand() -> None:
    facts = facts_of([[1, 2, 3], [1, 2], [7], []], [True, True, False, True], [False, True, False, False])
    # Bigrams 1-2, 2-3, 1-2.
    assert facts == TextFacts(4, 1.5, 0.25, 2 / 3, 0.25)


def test_what_is_like_the_reference_is_fine() -> None:
    assert collapsed(REFERENCE, REFERENCE, STOP) == ""
    # Just inside every limit.
    near = TextFacts(answers=20, length=20.0, unfinished=0.69, distinct_bigrams=0.41, empty=0.5)
    assert collapsed(near, REFERENCE, STOP) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"empty": 0.6}, "60% of the answers are empty"),
        ({"length": 19.0}, "answers have 19.0 tokens on average, the reference's 40.0: .*min_length_share = 0.5"),
        ({"unfinished": 0.75}, "75% of the answers have no end, of the reference's 20%: .*max_unfinished_rise = 0.5"),
        (
            {"distinct_bigrams": 0.39},
            "0.39 of the answers' bigrams are distinct, of the reference's 0.80: .*min_diversity_share = 0.5",
        ),
    ],
)
def test_each_collapse_is_named_with_its_numbers(change: dict[str, float], words: str) -> None:
    import re

    assert re.search(words, collapsed(replace(REFERENCE, **change), REFERENCE, STOP))  # type: ignore[arg-type]


def test_few_tokens_say_nothing_about_diversity() -> None:
    poor = replace(REFERENCE, distinct_bigrams=0.1)
    assert collapsed(replace(poor, answers=5), REFERENCE, STOP)  # 200 tokens
    assert collapsed(replace(poor, answers=4), REFERENCE, STOP) == ""


def test_a_reference_that_is_often_empty_allows_more() -> None:
    reference = replace(REFERENCE, empty=0.4)
    assert collapsed(replace(REFERENCE, empty=0.65), reference, STOP) == ""
    assert "75%" in collapsed(replace(REFERENCE, empty=0.75), reference, STOP)


def test_the_budget_is_a_limit_that_may_be_reached() -> None:
    settings = KlSettings(budget=10.0)
    assert over_budget(10.0, settings) == ""
    assert over_budget(10.5, settings) == "the rollouts' KL is 10.50 nats, beyond align.kl.budget = 10"


def points(*rewards: float) -> list[ValidationRewardPoint]:
    return [
        ValidationRewardPoint(update=4 * place, reward=reward, kl=0.0, length=1.0, within_budget=True)
        for place, reward in enumerate(rewards)
    ]


def test_plateau_counts_evaluations_since_the_best() -> None:
    patient = StopSettings(patience=2)
    assert plateau([], patient) == ""
    assert plateau(points(0.0, 1.0, 0.5), patient) == ""
    assert plateau(points(0.0, 1.0, 0.5, 1.1), patient) == ""
    # As good is not better.
    assert plateau(points(0.0, 1.0, 0.5, 1.0), patient) == (
        "2 evaluations on validation prompts brought no better reward than update 4"
    )
    assert "3 evaluations" in plateau(points(0.0, -1.0, -1.0, -2.0), patient)
