"""What the answers of a current LLM are worth by themselves, from texts and scores alone.

In: its answers with what was measured of them. Out: the evidence. Without a second model there is nothing to win
against; the figures are the ones that ``policy`` compares, so that a policy can be put beside them later.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rewardloop.bootstrap import Bools, Floats, Ints, over_documents
from rewardloop.config import EvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import CurrentModelEvidence, CurrentToxicityLine, Estimate, ScoredExample
from rewardloop.text_metrics import distinct_ngrams, repetition, words

_EXAMPLES = 5


class CurrentToxicity(NamedTuple):
    """Toxicity of answers, shape (answers,), from 0 to 1."""

    scorer: str
    prompts: str
    """Which prompts, in words."""
    document: Ints
    """One number per answer that names its prompt."""
    scores: Floats


def describe_answers(
    *,
    judged: str,
    prompts: Sequence[str],
    document: Ints,
    texts: Sequence[str],
    tokens: Ints,
    finished: Bools | None,
    reward: Floats,
    public: Floats,
    threshold: float | None,
    toxicity: Sequence[CurrentToxicity],
    settings: EvaluationSettings,
    seed: int,
    seconds: float,
) -> CurrentModelEvidence:
    """Describe the answers of one model; those that the reward model cannot score are left out and counted.

    Args:
        judged: whose answers, in words.
        prompts: one per answer, as people read them.
        document: shape (answers,), ints that name the answers' prompts; they are what the bootstrap resamples.
        texts: the answers.
        tokens: their lengths, shape (answers,).
        finished: whether each came to its end within the limit; None: not known.
        reward: standardized raw scores, NaN where the reward model cannot score the answer.
        public: the same on the public scale, NaN at the same places.
        threshold: accept when the public score reaches it; None: none was certified.
        toxicity: one set of measured answers per scorer and set of prompts.
        settings: ``bootstrap_samples`` and ``confidence``.
        seed: of the bootstrap.
        seconds: what the evaluation took.

    Raises:
        BadInputError: no answer could be scored.
    """
    assert len(prompts) == len(document) == len(texts) == len(tokens) == len(reward) == len(public), "one per answer"
    places = np.flatnonzero(~np.isnan(reward))
    if not len(places):
        raise BadInputError(
            f"evaluation: the reward model could score none of the {len(texts):,} answers; give it some, none of them "
            "longer than its max_length"
        )

    def mean(values: Floats, of: Ints) -> Estimate:
        return over_documents(
            of, samples=settings.bootstrap_samples, seed=seed, confidence=settings.confidence, unit="responses"
        )(values)

    document, scores = document[places], public[places]
    split = [words(texts[place]) for place in places.tolist()]
    order = places[np.argsort(-scores, kind="stable")]
    examples = [_example(prompts[place], texts[place], float(public[place]), threshold) for place in order.tolist()]
    return CurrentModelEvidence(
        judged=judged,
        prompts=len(np.unique(document)),
        responses=len(places),
        unscored=len(texts) - len(places),
        reward=mean(reward[places], document),
        public_score=mean(scores, document),
        accepted_share=None if threshold is None else mean((scores >= threshold).astype(float), document),
        length=mean(tokens[places].astype(float), document),
        distinct_unigrams=distinct_ngrams(split, 1),
        distinct_bigrams=distinct_ngrams(split, 2),
        repetition=repetition(split),
        unfinished=None if finished is None else float((~finished[places]).mean()),
        toxicity=[
            CurrentToxicityLine(scorer=one.scorer, prompts=one.prompts, mean=mean(one.scores, one.document))
            for one in toxicity
        ],
        highest=examples[:_EXAMPLES],
        lowest=examples[::-1][:_EXAMPLES],
        seconds=seconds,
    )


def _example(prompt: str, response: str, score: float, threshold: float | None) -> ScoredExample:
    label = "" if threshold is None else "accepted" if score >= threshold else "blocked"
    return ScoredExample(prompt=prompt, response=response, score=score, label=label)
