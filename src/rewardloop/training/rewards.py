"""What an answer is worth to a policy that learns: the reward model's score, standardized, less a penalty without end.

In: prompts and answers as texts, and a reward model in this process or behind a URL. Out: rewards; spread 1 and mean 0
over the responses of the validation split that the reward model was calibrated on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import as_text
from rewardloop.modeling.scoring import Floats, Messages, public_score

_SHOWN = 80


class Scorer(Protocol):
    """What ``RewardScorer`` and ``RemoteScorer`` have in common."""

    scoring: dict[str, Any]

    def raw_scores(self, prompts: Sequence[Messages], responses: Sequence[str]) -> Floats:
        """Raw scores, NaN where a response cannot be scored."""


class Rewards:
    """Scores answers for one alignment or evaluation.

    Args:
        scorer: the reward model.
        scored: ``response``: prompt and response through its own encoding; ``text``: the completed text.
        missing_eos_penalty: taken off where an answer has no end.
    """

    def __init__(
        self, scorer: Scorer, *, scored: Literal["response", "text"], missing_eos_penalty: float = 0.0
    ) -> None:
        self.scorer = scorer
        self.scored = scored
        self.missing_eos_penalty = missing_eos_penalty
        self.mean, self.spread = _scale(scorer.scoring)

    def raw(self, prompts: Sequence[Messages], answers: Sequence[str]) -> Floats:
        """Raw scores, float64 of shape (answers,); NaN where an answer cannot be scored."""
        return self.scorer.raw_scores(*self.as_scored(prompts, answers))

    def as_scored(self, prompts: Sequence[Messages], answers: Sequence[str]) -> tuple[list[Messages], list[str]]:
        """Prompts and responses as a judge is given them."""
        if self.scored == "response":
            return list(prompts), list(answers)
        texts = [completed(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        return [[] for _ in texts], texts

    def standardized(self, raw: Floats) -> Floats:
        """Raw scores in spreads from the mean."""
        return np.asarray((raw - self.mean) / self.spread)

    def public(self, reward_B: Floats) -> Floats:
        """Standardized scores on the public scale."""
        return public_score(reward_B * self.spread + self.mean, self.scorer.scoring["scale"])

    def __call__(
        self, prompts: Sequence[Messages], answers: Sequence[str], finished: Sequence[bool], *, strict: bool = True
    ) -> Floats:
        """Rewards, float64 of shape (answers,); NaN for what cannot be scored, unless ``strict``.

        Raises:
            BadInputError: ``strict``, and an answer cannot be scored: nothing can be learnt from it.
        """
        scores = self.standardized(self.raw(prompts, answers))
        if not strict:
            return np.asarray(scores - self.missing_eos_penalty * ~np.asarray(finished, dtype=bool))
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise BadInputError(
                f"the reward model gives {scores[bad[0]]} for the answer {answers[bad[0]][:_SHOWN]!r} (and "
                f"{len(bad) - 1} more): it is longer than the reward model reads, or its weights are broken; lower "
                "align.generation.max_new_tokens, or train the reward model with a larger model.max_length"
            )
        return np.asarray(scores - self.missing_eos_penalty * ~np.asarray(finished, dtype=bool))


def completed(prompt: Messages, answer: str) -> str:
    """Prompt and answer as one text."""
    return as_text(prompt) + answer


def _scale(scoring: Mapping[str, Any]) -> tuple[float, float]:
    if "raw_mean" not in scoring or "raw_spread" not in scoring:
        raise BadInputError(
            "the reward model has no scale yet (raw_mean, raw_spread in scoring.json): evaluate it first; a policy "
            "needs standardized rewards"
        )
    return float(scoring["raw_mean"]), float(scoring["raw_spread"])
