"""What a policy is worth beside its reference, from texts and scores alone: no model is asked here.

In: the answers of both to the same held-out prompts, with everything that was measured of each. Out: the evidence that
the policy's gate judges by. All differences are paired, and their intervals resample prompts: several answers to one
prompt are not independent.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rewardloop.bootstrap import Bools, Floats, Ints, over_documents
from rewardloop.config import EvaluationSettings
from rewardloop.evaluation.win_rate import both_scored, judge_line, length_controlled_win_rate, outcomes
from rewardloop.evidence import (
    Change,
    Estimate,
    JudgeLine,
    PerplexityLine,
    PolicyEvaluationEvidence,
    PolicySample,
    ToxicityLine,
)
from rewardloop.text_metrics import distinct_before_after, repetition, words

_LEAST_KL = 0.01
"""Nats below which a policy is its reference, and a gain per nat is noise over noise."""
_EXTREME_SAMPLES = 3
_RANDOM_SAMPLES = 4
_REWARD_MODEL = "the reward model"


class Responses(NamedTuple):
    """The answers of one model to the held-out prompts; every field has one entry per answer."""

    texts: Sequence[str]
    tokens: Ints
    """Length."""
    finished: Bools
    """Whether the answer came to its end within the limit."""
    reward: Floats
    """The reward model's raw score, standardized by its validation responses; NaN where it cannot score the answer."""
    public: Floats
    """The same on the public scale; NaN at the same places."""

    def part(self, mask: Bools) -> "Responses":
        """The answers where ``mask`` holds."""
        texts = [text for text, kept in zip(self.texts, mask, strict=True) if kept]
        return Responses(texts, self.tokens[mask], self.finished[mask], self.reward[mask], self.public[mask])


class JudgeScores(NamedTuple):
    """A second judge's scores of both answers, shape (answers,); NaN where it cannot score one."""

    judge: str
    """In words."""
    before: Floats
    after: Floats


class ToxicityScores(NamedTuple):
    """Toxicity of answers, shape (answers,), from 0 to 1; their prompts may be others than the held-out ones."""

    scorer: str
    prompts: str
    """Which prompts, in words."""
    document: Ints
    """One number per answer that names its prompt."""
    before: Floats
    after: Floats


class TextLosses(NamedTuple):
    """Mean negative log-likelihood per token of texts that nobody generated, in nats, shape (texts,)."""

    texts: str
    """Which texts, in words."""
    before: Floats
    after: Floats


def compare_policies(
    *,
    judged: str,
    prompts: Sequence[str],
    document: Ints,
    before: Responses,
    after: Responses,
    kl: Floats,
    judges: Sequence[JudgeScores],
    threshold: float | None,
    tie_band: float | None,
    toxicity: Sequence[ToxicityScores],
    text_losses: TextLosses | None,
    settings: EvaluationSettings,
    seed: int,
    seconds: float,
) -> PolicyEvaluationEvidence:
    """Compare a policy with its reference on the same prompts, in the same order.

    An answer that the reward model cannot score is left out of everything, with its counterpart, and counted.

    Args:
        judged: whose answers, in words.
        prompts: one per answer, as people read them.
        document: shape (answers,), ints that name the answers' prompts.
        before, after: the reference's answers and the policy's.
        kl: sum of log pi - log ref over each of the policy's answers, shape (answers,), in nats.
        judges: the second judges, at least one.
        threshold: accept when the public score reaches it; None: none was certified.
        tie_band: differences of public scores up to this are ties; None: only equal scores are. Other judges have none.
        toxicity: a set of measured answers per scorer and set of prompts.
        text_losses: what was forgotten; None: not measured.
        settings: ``bootstrap_samples`` and ``confidence``.
        seed: of the bootstrap and of the samples to read.
        seconds: what the evaluation took.

    Raises:
        BadInputError: a judge, the reward model among them, could score no answer together with its counterpart.
    """
    assert judges, "over-optimization cannot be seen without a second judge"
    assert len(prompts) == len(document) == len(before.texts) == len(after.texts) == len(kl), "one entry per answer"
    scored = both_scored(_REWARD_MODEL, before.reward, after.reward)
    unscored = int(np.isnan(before.reward).sum() + np.isnan(after.reward).sum())
    prompts = [prompt for prompt, kept in zip(prompts, scored, strict=True) if kept]
    document, before, after = document[scored], before.part(scored), after.part(scored)
    estimate = _means(document, settings, seed)

    reward = change(before.reward, after.reward, estimate)
    band = tie_band or 0.0
    own = judge_line(_REWARD_MODEL, before.public, after.public, tie_band=band, estimate=estimate)
    others = [_second(one, scored, document, settings, seed) for one in judges]
    divergence = estimate(kl[scored])
    before_words, after_words = ([words(text) for text in side.texts] for side in (before, after))
    return PolicyEvaluationEvidence(
        judged=judged,
        prompts=len(np.unique(document)),
        responses=len(document),
        unscored=unscored,
        reward=reward,
        accepted_share=_accepted(before, after, threshold, estimate),
        judges=[own, *others],
        length_controlled_win_rate=length_controlled_win_rate(
            outcomes(before.public, after.public, band), before.tokens.astype(float), after.tokens.astype(float)
        ),
        kl=divergence,
        gain_per_kl=reward.difference.value / divergence.value if divergence.value > _LEAST_KL else None,
        length=change(before.tokens.astype(float), after.tokens.astype(float), estimate),
        distinct_unigrams=distinct_before_after(before_words, after_words, 1),
        distinct_bigrams=distinct_before_after(before_words, after_words, 2),
        repetition=(repetition(before_words), repetition(after_words)),
        unfinished=(float((~before.finished).mean()), float((~after.finished).mean())),
        toxicity=[_toxicity(one, settings, seed) for one in toxicity],
        perplexity=_perplexity(text_losses, settings, seed) if text_losses else None,
        over_optimized=reward.difference.low > 0 and any(line.gain.high < 0 for line in others),
        samples=_samples(prompts, before, after, seed),
        seconds=seconds,
    )


def change(before: Floats, after: Floats, estimate: Callable[[Floats], Estimate]) -> Change:
    """Both means and the mean of the differences, each with its interval; the difference's is paired."""
    return Change(before=estimate(before), after=estimate(after), difference=estimate(after - before))


def _means(
    document: Ints, settings: EvaluationSettings, seed: int, unit: str = "responses"
) -> Callable[[Floats], Estimate]:
    return over_documents(
        document, samples=settings.bootstrap_samples, seed=seed, confidence=settings.confidence, unit=unit
    )


def _second(one: JudgeScores, scored: Bools, document: Ints, settings: EvaluationSettings, seed: int) -> JudgeLine:
    """A second judge on the answers that the reward model scored and it scored too."""
    before, after = one.before[scored], one.after[scored]
    known = both_scored(one.judge, before, after)
    estimate = _means(document[known], settings, seed)
    return judge_line(one.judge, before[known], after[known], tie_band=0.0, estimate=estimate)


def _accepted(
    before: Responses, after: Responses, threshold: float | None, estimate: Callable[[Floats], Estimate]
) -> Change | None:
    if threshold is None:
        return None
    return change((before.public >= threshold).astype(float), (after.public >= threshold).astype(float), estimate)


def _toxicity(one: ToxicityScores, settings: EvaluationSettings, seed: int) -> ToxicityLine:
    estimate = _means(one.document, settings, seed)
    return ToxicityLine(scorer=one.scorer, prompts=one.prompts, change=change(one.before, one.after, estimate))


def _perplexity(losses: TextLosses, settings: EvaluationSettings, seed: int) -> PerplexityLine:
    """Every text weighs the same, so that after / before is exp of the mean difference."""
    estimate = _means(np.arange(len(losses.before)), settings, seed, unit="texts")
    return PerplexityLine(
        texts=losses.texts,
        before=float(np.exp(losses.before.mean())),
        after=float(np.exp(losses.after.mean())),
        log_ratio=estimate(losses.after - losses.before),
    )


def _samples(prompts: Sequence[str], before: Responses, after: Responses, seed: int) -> list[PolicySample]:
    """Some of the largest gains, of the largest losses and of all others, none twice."""
    order = np.argsort(before.reward - after.reward, kind="stable")
    gains, rest = order[:_EXTREME_SAMPLES], order[_EXTREME_SAMPLES:]
    losses, rest = rest[::-1][:_EXTREME_SAMPLES], rest[: max(0, len(rest) - _EXTREME_SAMPLES)]
    some = np.random.default_rng(seed).permutation(rest)[:_RANDOM_SAMPLES]
    return [
        PolicySample(
            prompt=prompts[place],
            reference=before.texts[place],
            policy=after.texts[place],
            reference_reward=float(before.reward[place]),
            policy_reward=float(after.reward[place]),
        )
        for place in np.concatenate([gains, losses, some]).tolist()
    ]
