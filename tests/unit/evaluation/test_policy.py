"""A policy beside its reference, and a current LLM by itself: every figure worked by hand."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from rewardloop.config import EvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.current_model import CurrentToxicity, describe_answers
from rewardloop.evaluation.policy import JudgeScores, Responses, TextLosses, ToxicityScores, compare_policies
from rewardloop.evaluation.win_rate import judge_line, length_controlled_win_rate, outcomes
from rewardloop.evidence import CurrentModelEvidence, Estimate, PolicyEvaluationEvidence

SETTINGS = EvaluationSettings(bootstrap_samples=200)
NAN = math.nan


def array(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values)


def responses(reward: list[float], texts: list[str] | None = None, **fields: Any) -> Responses:
    """Answers with these rewards; the public score is 1 + 2 * reward."""
    count, rewards = len(reward), np.array(reward, dtype=float)
    return Responses(
        texts if texts is not None else ["some words here"] * count,
        np.array(fields.get("tokens", range(count))),
        np.array(fields.get("finished", [True] * count)),
        rewards,
        1 + 2 * rewards,
    )


BEFORE = responses(
    [0, 1, 0, -1], ["a b", "a b c d", "b a", "never mind"], tokens=[2, 4, 2, 9], finished=[True, True, False, True]
)
AFTER = responses(
    [1, 1.5, 2, NAN], ["A b a", "x x x", "a b a b a b", "z"], tokens=[3, 3, 6, 9], finished=[True, False, False, True]
)


def compared(before: Responses = BEFORE, after: Responses = AFTER, **changes: Any) -> PolicyEvaluationEvidence:
    count = len(before.texts)
    arguments: dict[str, Any] = {
        "judged": "the aligned policy",
        "prompts": [f"question {place}" for place in range(count)],
        "document": np.arange(count),
        "kl": array(2, 4, 3, 100) if count == 4 else np.ones(count),
        "judges": [JudgeScores("a judge", np.arange(count, dtype=float), np.arange(count, dtype=float))],
        "threshold": 3.0,
        "tie_band": 1.0,
        "toxicity": [],
        "text_losses": None,
        "settings": SETTINGS,
        "seed": 0,
        "seconds": 1.5,
    }
    return compare_policies(before=before, after=after, **arguments | changes)


def test_figures_by_hand() -> None:
    """The fourth answer cannot be scored: it is left out of everything, with its counterpart."""
    found = compared(document=array(7, 7, 8, 9))
    assert (found.prompts, found.responses, found.unscored) == (2, 3, 1)
    assert found.reward.before.value == pytest.approx(1 / 3)
    assert found.reward.after.value == pytest.approx(4.5 / 3)
    assert found.reward.difference.value == pytest.approx(3.5 / 3)
    assert (found.reward.difference.count, found.reward.difference.unit) == (3, "responses")
    assert found.accepted_share is not None
    assert found.accepted_share.before.value == pytest.approx(1 / 3)  # public scores 1, 3, 1
    assert found.accepted_share.after.value == 1  # 3, 4, 5
    own = found.judges[0]
    assert (own.judge, own.wins, own.ties, own.losses) == ("the reward model", 2, 1, 0)
    assert own.win_rate.value == pytest.approx(2.5 / 3)
    assert own.tie_band == 1
    assert own.gain.value == pytest.approx((7 / 3) / math.sqrt(8 / 9))
    assert found.kl.value == 3
    assert found.gain_per_kl == pytest.approx(3.5 / 9)
    assert (found.length.before.value, found.length.after.value) == (pytest.approx(8 / 3), 4)
    assert found.unfinished == pytest.approx((1 / 3, 2 / 3))
    assert found.repetition == pytest.approx((0, 1 / 9))  # abab baba abab: one of three; none in the others
    assert found.seconds == 1.5


def test_variety_is_compared_at_equal_amounts_of_text() -> None:
    found = compared()
    # Before: 8 words of 4 kinds. After: 5 a, 4 b, 3 x, of which 8 are drawn; of 495 draws 1 has no b and 9 have no x.
    assert found.distinct_unigrams == pytest.approx((4 / 8, (3 - 10 / 495) / 8))
    # Before: ab, ab bc cd, ba. After: 4 ab, 3 ba, 2 xx, of which 5 are drawn; without one of them 1, 6, 21 of 126 ways.
    assert found.distinct_bigrams == pytest.approx((4 / 5, (3 - 28 / 126) / 5))


def test_a_rising_reward_with_a_falling_judge_is_over_optimization() -> None:
    zeros = np.zeros(4)
    falling = JudgeScores("a judge", zeros, array(-1, -1, -1, 9))
    found = compared(judges=[JudgeScores("another", zeros, zeros), falling])
    assert found.over_optimized
    # All references score the same: there is no spread to divide by. The fourth answer is not theirs to judge.
    assert (found.judges[2].gain.value, found.judges[2].gain.high, found.judges[2].losses) == (-1, -1, 3)
    assert not compared(judges=[JudgeScores("a judge", zeros, array(-1, -1, 1, 9))]).over_optimized  # not surely below
    assert not compared(before=AFTER, after=BEFORE, judges=[falling]).over_optimized  # the reward falls, too
    perhaps = compared(before=responses([0, 0, 0, 0]), after=responses([3, -1, -1, NAN]), judges=[falling])
    assert perhaps.reward.difference.value > 0
    assert not perhaps.over_optimized  # it may as well have fallen


def test_the_second_judge_has_no_tie_band_and_its_own_gaps() -> None:
    judge = JudgeScores("a judge", array(0, 0, 0, 0), array(0.1, NAN, 0.0, 1))
    line = compared(judges=[judge]).judges[1]
    assert (line.wins, line.ties, line.losses, line.win_rate.count, line.tie_band) == (1, 1, 0, 2, 0)


def test_without_a_threshold_or_a_band() -> None:
    found = compared(threshold=None, tie_band=None)
    assert found.accepted_share is None
    assert (found.judges[0].wins, found.judges[0].ties, found.judges[0].tie_band) == (3, 0, 0)


@pytest.mark.parametrize(("kl", "expected"), [(0.011, (3.5 / 3) / 0.011), (0.01, None), (-1.0, None)])
def test_no_gain_per_nat_where_there_are_none(kl: float, expected: float | None) -> None:
    assert compared(kl=np.full(4, kl)).gain_per_kl == pytest.approx(expected)


def test_toxicity_and_perplexity() -> None:
    toxicity = ToxicityScores("a scorer", "some prompts", array(0, 1), array(0.0, 0.2), array(0.4, 0.2))
    losses = TextLosses("some texts", array(1, 3), array(2, 2.5))
    found = compared(toxicity=[toxicity], text_losses=losses)
    (line,) = found.toxicity
    assert (line.scorer, line.prompts) == ("a scorer", "some prompts")
    assert (line.change.before.value, line.change.after.value) == pytest.approx((0.1, 0.3))
    assert line.change.difference.value == pytest.approx(0.2)
    assert found.perplexity is not None
    assert found.perplexity.before == pytest.approx(math.exp(2))
    assert found.perplexity.after == pytest.approx(math.exp(2.25))
    assert found.perplexity.log_ratio.value == pytest.approx(0.25)
    assert found.perplexity.log_ratio.unit == "texts"


def test_several_answers_to_a_prompt_are_not_more_evidence() -> None:
    random = np.random.default_rng(0)
    before, after = random.normal(size=30), random.normal(size=30)
    once = compared(responses(list(before)), responses(list(after))).reward.difference
    twice = np.repeat(np.arange(30), 2)
    copied = compared(responses(list(before[twice])), responses(list(after[twice])), document=twice).reward.difference
    assert (copied.value, copied.low, copied.high) == pytest.approx((once.value, once.low, once.high))
    assert copied.count == 2 * once.count


def test_differences_are_paired() -> None:
    reward = np.random.default_rng(0).normal(size=50) * 10
    found = compared(responses(list(reward)), responses(list(reward + 1))).reward
    assert (found.difference.low, found.difference.high) == pytest.approx((1, 1))
    assert found.before.high - found.before.low > 2


def test_samples_are_the_extremes_and_some_others() -> None:
    gain = np.random.default_rng(0).permutation(40) - 20
    before, after = (
        responses([0] * 40, [f"r{i}" for i in range(40)]),
        responses(list(gain), [f"p{i}" for i in range(40)]),
    )
    samples = compared(before, after).samples
    assert [sample.policy_reward for sample in samples[:6]] == [19, 18, 17, -20, -19, -18]
    assert len({sample.prompt for sample in samples}) == len(samples) == 10
    for sample in samples:
        place = int(sample.prompt.removeprefix("question "))
        assert (sample.reference, sample.policy, sample.policy_reward) == (f"r{place}", f"p{place}", gain[place])
    assert samples == compared(before, after).samples
    assert len({sample.prompt for sample in compared().samples}) == 3
    five = compared(responses([0] * 5), responses([1, 2, 3, 4, 5])).samples
    assert [sample.policy_reward for sample in five] == [5, 4, 3, 1, 2]


def test_nothing_scored_is_an_error() -> None:
    with pytest.raises(BadInputError, match="the reward model could score no answer together with its counterpart"):
        compared(after=responses([NAN] * 4))
    with pytest.raises(BadInputError, match="a judge could score no answer together with its counterpart"):
        compared(judges=[JudgeScores("a judge", np.zeros(4), array(NAN, NAN, NAN, 1))])


def test_outcomes_by_hand() -> None:
    before, after = array(0, 0, 0, 0, 0), array(0.5, 0.51, -0.5, -0.51, 0)
    assert outcomes(before, after, 0.5).tolist() == [0.5, 1, 0.5, 0, 0.5]
    assert outcomes(before, after, 0.0).tolist() == [1, 1, 0, 0, 0.5]


def test_judge_line_gains_in_spreads_of_the_references() -> None:
    def estimate(values: np.ndarray[Any, Any]) -> Estimate:
        return Estimate(value=float(values.mean()), low=0, high=0, count=len(values))

    line = judge_line("a judge", array(-2, 2), array(-1, 4), tie_band=1.0, estimate=estimate)
    assert line.gain.value == 0.75  # 1.5 in a spread of 2
    assert (line.wins, line.ties, line.losses, line.win_rate.value) == (1, 1, 0, 0.75)


def controlled(*parts: tuple[int, list[float]]) -> float | None:
    """The win rate at equal length for outcomes at some differences of length."""
    difference = np.concatenate([[length] * len(outcome) for length, outcome in parts]).astype(float)
    return length_controlled_win_rate(
        np.concatenate([outcome for _, outcome in parts]), np.full(len(difference), 50.0), 50 + difference
    )


def test_wins_by_length_alone_are_none_at_equal_length() -> None:
    # 1 of 4 where shorter, 6 of 8 where longer: log odds -log 3 and log 3, so 0 between; 7 of 12 in all.
    assert controlled((-5, [1, 0, 0, 0]), (5, [1, 1, 1, 1, 1, 1, 0, 0])) == pytest.approx(0.5, abs=1e-4)
    # Log odds 0 and log 9: log 3 between.
    assert controlled((-5, [1, 0]), (5, [1] * 9 + [0])) == pytest.approx(0.75, abs=1e-4)
    # A tie is half of each.
    assert controlled((-5, [0.5, 0.5]), (5, [1] * 9 + [0])) == pytest.approx(0.75, abs=1e-4)


def test_a_planted_advantage_at_equal_length_is_found() -> None:
    random = np.random.default_rng(0)
    difference = random.normal(20, 30, 40_000)
    odds = 0.4 + 2 * np.tanh(difference / difference.std())
    outcome = (random.random(40_000) < expit(odds)).astype(float)
    found = length_controlled_win_rate(outcome, np.zeros(40_000), difference)
    assert outcome.mean() > 0.7
    assert found == pytest.approx(expit(0.4), abs=0.01)


@pytest.mark.parametrize(
    "parts",
    [
        [(1, [1.0, 0.0]), (2, [1.0, 0.0])],  # the policy is always longer: nothing is known of equal length
        [(-2, [1.0, 0.0]), (-1, [1.0, 0.0])],
        [(-2, [1.0, 1.0]), (1, [1.0, 1.0])],  # always won
        [(-2, [0.0, 0.0]), (1, [1.0, 1.0])],  # length tells everything
        [(-2, [0.0]), (0, [0.5]), (1, [1.0])],
    ],
)
def test_where_the_win_rate_at_equal_length_cannot_be_told(parts: list[tuple[int, list[float]]]) -> None:
    assert controlled(*parts) is None


def test_always_equal_lengths_need_no_control() -> None:
    assert controlled((0, [1, 1, 1, 0.5])) == 0.875


def described(**changes: Any) -> CurrentModelEvidence:
    arguments: dict[str, Any] = {
        "judged": "the current model",
        "prompts": ["p0", "p0", "p1", "p2"],
        "document": np.array([0, 0, 1, 2]),
        "texts": ["a b a b a", "c", "a a", "too long"],
        "tokens": np.array([5, 1, 3, 99]),
        "finished": np.array([True, True, False, False]),
        "reward": array(1, 0, 2, NAN),
        "public": array(3, 1, 5, NAN),
        "threshold": 3.0,
        "toxicity": [CurrentToxicity("a scorer", "some prompts", np.array([0, 1]), array(0.1, 0.3))],
        "settings": SETTINGS,
        "seed": 0,
        "seconds": 2.0,
    }
    return describe_answers(**arguments | changes)


def test_a_current_model_by_hand() -> None:
    found = described()
    assert (found.prompts, found.responses, found.unscored, found.seconds) == (2, 3, 1, 2.0)
    assert (found.reward.value, found.public_score.value, found.length.value) == (1, 3, 3)
    assert found.accepted_share is not None
    assert found.accepted_share.value == pytest.approx(2 / 3)
    assert found.unfinished == pytest.approx(1 / 3)
    assert found.distinct_unigrams == 3 / 8
    assert found.distinct_bigrams == 3 / 5  # ab ba ab ba, aa
    assert found.repetition == 0
    assert found.toxicity[0].mean.value == pytest.approx(0.2)
    assert [(line.prompt, line.response, line.score, line.label) for line in found.highest] == [
        ("p1", "a a", 5, "accepted"),
        ("p0", "a b a b a", 3, "accepted"),
        ("p0", "c", 1, "blocked"),
    ]
    assert found.lowest == found.highest[::-1]


def test_what_is_not_known_of_a_current_model_stays_out() -> None:
    found = described(finished=None, threshold=None, toxicity=[])
    assert (found.unfinished, found.accepted_share, found.toxicity) == (None, None, [])
    assert {line.label for line in found.highest} == {""}


def test_a_current_model_without_a_scored_answer_is_an_error() -> None:
    with pytest.raises(BadInputError, match="could score none of the 4 answers"):
        described(reward=np.full(4, NAN))
