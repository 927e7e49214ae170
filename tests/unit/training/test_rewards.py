"""Rewards: what the reward model is given, and how its scores become something to learn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rewardloop.errors import BadInputError
from rewardloop.modeling.scoring import Floats, Messages
from rewardloop.training.rewards import Rewards

PROMPTS: list[Messages] = [
    [{"role": "user", "content": "Why?"}],
    [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "You."}, {"role": "user", "content": "Oh."}],
]
ANSWERS = [" Because.", " Well."]


class Recorder:
    """Gives the scores that it was made with, and keeps what it was asked."""

    def __init__(self, *scores: float, **scoring: Any) -> None:
        self.scores = np.array(scores)
        self.scoring = {"raw_mean": 1.0, "raw_spread": 2.0, "scale": {"raw": [1, 3], "public": [50, 60]}} | scoring
        self.asked: list[tuple[Sequence[Messages], Sequence[str]]] = []

    def raw_scores(self, prompts: Sequence[Messages], responses: Sequence[str]) -> Floats:
        self.asked.append((prompts, responses))
        return self.scores


def test_scores_are_standardized_and_a_missing_end_costs_the_penalty() -> None:
    rewards = Rewards(Recorder(5.0, -1.0), scored="response", missing_eos_penalty=0.5)
    found = rewards(PROMPTS, ANSWERS, [True, False])
    assert found.dtype == np.float64
    # (5 - 1) / 2 and (-1 - 1) / 2 - 0.5.
    assert found.tolist() == [2.0, -1.5]
    # On the public scale 1 is 50 and 3 is 60.
    assert rewards.public(np.array([0.0, 1.0])).tolist() == [50.0, 60.0]
    assert rewards.raw(PROMPTS, ANSWERS).tolist() == [5.0, -1.0]


def test_a_response_is_scored_with_its_prompt_and_a_text_as_a_whole() -> None:
    scorer = Recorder(0.0, 0.0)
    Rewards(scorer, scored="response")(PROMPTS, ANSWERS, [True, True])
    assert scorer.asked.pop() == (PROMPTS, ANSWERS)
    Rewards(scorer, scored="text")(PROMPTS, ANSWERS, [True, True])
    prompts, texts = scorer.asked.pop()
    assert prompts == [[], []]
    assert texts == ["Why? Because.", "\n\nHuman: Who?\n\nAssistant: You.\n\nHuman: Oh.\n\nAssistant: Well."]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_cannot_be_scored_is_refused_with_the_answer(bad: float) -> None:
    rewards = Rewards(Recorder(1.0, bad), scored="response")
    with pytest.raises(BadInputError, match=rf"gives {bad} for the answer ' Well.' \(and 0 more\): .*max_new_tokens"):
        rewards(PROMPTS, ANSWERS, [True, True])


def test_a_long_answer_is_shown_in_part_and_others_are_counted() -> None:
    rewards = Rewards(Recorder(float("nan"), float("nan")), scored="response")
    with pytest.raises(BadInputError) as found:
        rewards(PROMPTS, ["x" * 500, "y"], [True, True])
    assert f"'{'x' * 80}' (and 1 more)" in str(found.value)


def test_in_an_evaluation_what_cannot_be_scored_stays_nan() -> None:
    found = Rewards(Recorder(float("nan"), 3.0), scored="response", missing_eos_penalty=1.0)(
        PROMPTS, ANSWERS, [False, False], strict=False
    )
    assert np.isnan(found[0])
    assert found[1] == 0.0


@pytest.mark.parametrize("missing", ["raw_mean", "raw_spread"])
def test_a_reward_model_without_scale_is_refused(missing: str) -> None:
    scorer = Recorder()
    del scorer.scoring[missing]
    with pytest.raises(
        BadInputError, match=r"no scale yet \(raw_mean, raw_spread in scoring.json\): evaluate it first"
    ):
        Rewards(scorer, scored="response")
