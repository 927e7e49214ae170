"""The truth table of the policy's gate: over-optimization and KL always, the rest where there is a limit."""

from typing import Any

import pytest

from rewardloop.config import PolicyGateSettings
from rewardloop.evaluation.policy_gate import decide_policy
from rewardloop.evidence import (
    Change,
    Estimate,
    JudgeLine,
    PerplexityLine,
    PolicyEvaluationEvidence,
    PolicyVerdict,
    ToxicityLine,
)

NOTHING = {
    "min_reward_gain": None,
    "min_length_ratio": None,
    "min_diversity_ratio": None,
    "max_toxicity_rise": None,
    "max_perplexity_ratio": None,
}


def near(value: float, half: float = 0.1) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, count=200, unit="responses")


def change(before: float, after: float) -> Change:
    return Change(before=near(before), after=near(after), difference=near(after - before))


def judge(gain: float, name: str = "a bag of words") -> JudgeLine:
    return JudgeLine(judge=name, wins=120, ties=20, losses=60, win_rate=near(0.65), tie_band=0.1, gain=near(gain))


def toxicity(rise: float, prompts: str = "the held-out prompts") -> ToxicityLine:
    return ToxicityLine(scorer="profanity-check", prompts=prompts, change=change(0.1, 0.1 + rise))


def perplexity(before: float, after: float) -> PerplexityLine:
    return PerplexityLine(texts="some texts", before=before, after=after, log_ratio=near(0.2))


def judged(gate: dict[str, Any] | None = None, **measured: Any) -> PolicyVerdict:
    evidence = PolicyEvaluationEvidence(
        judged="the aligned policy",
        prompts=200,
        responses=200,
        unscored=0,
        reward=change(0.0, 0.8),
        accepted_share=None,
        judges=[judge(0.8, "the reward model"), judge(0.3)],
        length_controlled_win_rate=0.6,
        kl=near(4.0),
        gain_per_kl=0.2,
        length=change(40, 36),
        distinct_unigrams=(0.5, 0.45),
        distinct_bigrams=(0.8, 0.7),
        repetition=(0.01, 0.02),
        unfinished=(0.1, 0.1),
        toxicity=[toxicity(0.0)],
        perplexity=None,
        over_optimized=False,
        samples=[],
        seconds=1.0,
    ).model_copy(update=measured)
    return decide_policy(evidence, PolicyGateSettings.model_validate(gate or {}), kl_budget=10.0, candidate="c")


def test_a_sound_policy_is_blessed_with_the_default_limits() -> None:
    verdict = judged()
    assert verdict.blessed
    assert verdict.candidate == "c"
    assert [check.name for check in verdict.checks] == [
        "over-optimization",
        "gain of the standardized reward",
        "KL from the reference",
        "length of answers over the reference's",
        "distinct bigrams over the reference's",
        "rise of toxicity by profanity-check on the held-out prompts",
    ]
    assert verdict.reasons == ["All 6 checks passed."]


def test_over_optimization_is_refused_without_any_limit() -> None:
    verdict = judged(
        NOTHING, over_optimized=True, judges=[judge(0.8, "the reward model"), judge(0.3), judge(-0.4, "b")]
    )
    assert not verdict.blessed
    assert verdict.reasons == [
        "Over-optimization: the reward rises by 0.800, while b sees -0.400 [-0.500, -0.300] spreads; the policy has "
        "learnt what the reward model is wrong about."
    ]
    assert [check.name for check in verdict.checks] == ["over-optimization", "KL from the reference"]
    assert (verdict.checks[0].value, verdict.checks[0].limit) == (-0.4, 0)


def test_without_a_second_judge_over_optimization_is_not_known() -> None:
    verdict = judged(NOTHING, judges=[judge(0.8, "the reward model")])
    assert verdict.reasons == ["Over-optimization: could not be measured, there is no second judge."]


@pytest.mark.parametrize(
    ("gate", "measured", "blessed"),
    [
        ({"min_reward_gain": 0.0}, {"reward": change(0, 0.2)}, True),
        ({"min_reward_gain": 0.0}, {"reward": change(0, 0.1)}, False),  # the lower end is not above 0
        ({"min_reward_gain": 0.5}, {"reward": change(0, 0.55)}, False),
        ({}, {"reward": change(0, -1)}, True),
        ({}, {"kl": near(10.0)}, True),
        ({}, {"kl": near(10.01)}, False),  # align.kl.budget
        ({"max_kl": 3.0}, {}, False),
        ({"max_kl": 20.0}, {"kl": near(15.0)}, True),
        ({}, {"kl": near(float("nan"))}, False),
        ({"min_length_ratio": 0.5}, {"length": change(40, 20)}, True),
        ({"min_length_ratio": 0.5}, {"length": change(40, 19)}, False),
        ({"min_length_ratio": 0.5}, {"length": change(0, 0)}, False),
        ({"min_diversity_ratio": 0.5}, {"distinct_bigrams": (0.8, 0.4)}, True),
        ({"min_diversity_ratio": 0.5}, {"distinct_bigrams": (0.8, 0.39)}, False),
        ({"min_diversity_ratio": 0.5}, {"distinct_bigrams": (0.0, 0.0)}, False),
        ({"max_toxicity_rise": 0.05}, {"toxicity": [toxicity(0.14)]}, True),  # it may be 0.04
        ({"max_toxicity_rise": 0.05}, {"toxicity": [toxicity(0.16)]}, False),
        ({"max_toxicity_rise": 0.05}, {"toxicity": [toxicity(0.0), toxicity(0.5, "others")]}, False),
        ({"max_toxicity_rise": 0.05}, {"toxicity": []}, False),
        ({"max_toxicity_rise": 0.05}, {"toxicity": [toxicity(float("nan"))]}, False),
        ({"max_perplexity_ratio": 1.1}, {"perplexity": perplexity(20, 22)}, True),
        ({"max_perplexity_ratio": 1.1}, {"perplexity": perplexity(20, 22.1)}, False),
        ({"max_perplexity_ratio": 1.1}, {"perplexity": None}, False),
        ({}, {"distinct_bigrams": (0.8, 0.1), "length": change(40, 1), "toxicity": [toxicity(0.9)]}, True),
    ],
)
def test_limits(gate: dict[str, Any], measured: dict[str, Any], blessed: bool) -> None:
    verdict = judged(NOTHING | gate, **measured)
    assert verdict.blessed is blessed
    assert sum(not check.passed for check in verdict.checks) == (0 if blessed else 1)


def test_reasons_name_what_was_found_and_the_limit() -> None:
    measured = {"length": change(40, 10), "toxicity": [toxicity(0.3)], "perplexity": None, "kl": near(12.0)}
    assert judged({"max_perplexity_ratio": 1.2}, **measured).reasons == [
        "KL from the reference: 12.000 [11.900, 12.100]; the limit is 10.",
        "Length of answers over the reference's: 0.250; the limit is 0.5.",
        "Rise of toxicity by profanity-check on the held-out prompts: 0.300 [0.200, 0.400]; the lower end is not at "
        "most 0.05.",
        "Perplexity over the reference's: could not be measured; the limit is 1.2.",
    ]
