"""Feedback whose truth is known: the quality of every answer, the reliability of every labeler, the noise of a model.

In: a seed and how many prompts per segment. Out: a ``World`` (texts with their true quality), labels, ``FEEDBACK``
rows, and word values of models with a known accuracy.

An answer is eight words of its segment's vocabulary, sometimes the brand's name, and none to six times the filler; its
quality is the mean of its words' true values. A model is the same words with other values. Where these are the true
ones plus noise of spread s that is uncorrelated with them, quality and score of an answer have correlation
1 / sqrt(1 + s^2), and the model orders a share of 1/2 + asin(correlation) / pi of the pairs right (the orthant
probability of a bivariate normal distribution, Sheppard 1899).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rewardloop.records import FeedbackGroup
from rewardloop.tables import feedback_frame

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FILLER, BRAND = "indeed", "acme"
_VOCABULARY = 300  # words per segment
_CORE = 8
_MOST_FILLER = 6
_BRAND_SHARE = 0.3
_TOPIC = 4  # words of a prompt
_CONSONANTS, _VOWELS = np.array(list("bdfgklmnprstvz")), np.array(list("aeiou"))


class World(NamedTuple):
    """Prompts with two answers each, and the true value of every word."""

    segment: list[str]
    prompt: list[str]
    answers: list[tuple[str, str]]
    values: dict[str, float]
    """The filler's and the brand's are 0."""

    def quality(self, values: Mapping[str, float] | None = None) -> Floats:
        """Mean value of each answer's words, shape (prompts, 2); by the true values unless others are given."""
        known = self.values if values is None else values
        return np.array([[np.mean([known[word] for word in one.split()]) for one in pair] for pair in self.answers])

    def occurrences(self, word: str) -> Ints:
        """How often each answer has ``word``, shape (prompts, 2)."""
        return np.array([[one.split().count(word) for one in pair] for pair in self.answers])

    def words(self, *segments: str) -> list[str]:
        """The vocabulary of ``segments``."""
        return [word for word in self.values if word.rstrip("0123456789") in segments]


def make_world(seed: int, sizes: Mapping[str, int]) -> World:
    """``sizes``: segment -> number of prompts. Equal arguments give equal worlds."""
    rng = np.random.default_rng([seed, 1])
    values = {FILLER: 0.0, BRAND: 0.0}
    vocabulary = {name: [f"{name}{place}" for place in range(_VOCABULARY)] for name in sizes}
    for words in vocabulary.values():
        values |= dict(zip(words, _standardized(rng.normal(size=_VOCABULARY)).tolist(), strict=True))
    topics = _topics(rng)
    segment = [name for name, count in sizes.items() for _ in range(count)]
    return World(
        segment=segment,
        prompt=[" ".join(words) for words in rng.choice(topics, (len(segment), _TOPIC)).tolist()],
        answers=[(_answer(rng, vocabulary[name]), _answer(rng, vocabulary[name])) for name in segment],
        values=values,
    )


@dataclass(frozen=True)
class Labelers:
    """People who choose between two answers; labeler i is called ``w<i>``."""

    accuracy: Sequence[float]
    """How often each chooses the better one: 0.5 answers at random, 0.1 reverses."""

    def choices(self, quality: Floats, who: Ints, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Whether the first answer is chosen, shape (prompts, labelers per prompt).

        Args:
            quality: shape (prompts, 2).
            who: number of each labeler, shape (prompts, labelers per prompt).
            rng: decides who errs.
        """
        right = rng.random(who.shape) < np.asarray(self.accuracy)[who]
        return np.asarray((quality[:, :1] > quality[:, 1:]) == right)

    def draw(self, prompts: int, each: int, rng: np.random.Generator) -> Ints:
        """``each`` distinct labelers per prompt, shape (prompts, each)."""
        return np.argsort(rng.random((prompts, len(self.accuracy))), axis=1)[:, :each]


def choice_labels(who: Ints, first: NDArray[np.bool_]) -> list[list[dict[str, Any]]]:
    """Choices as labels, one list per prompt; ``who`` and ``first`` as in ``Labelers.choices``; -1 is nobody."""
    return [
        [
            {
                "kind": "choice",
                "labeler": f"w{labeler}",
                "chosen": _id(place, not chosen),
                "rejected": _id(place, chosen),
            }
            for labeler, chosen in zip(labelers, chosen_first, strict=True)
            if labeler >= 0
        ]
        for place, (labelers, chosen_first) in enumerate(zip(who.tolist(), first.tolist(), strict=True))
    ]


def verdict_labels(acceptable: NDArray[np.bool_]) -> list[list[dict[str, Any]]]:
    """Explicit verdicts of one reviewer on both answers of each prompt, shape (prompts, 2)."""
    return [
        [
            {
                "kind": "acceptable",
                "labeler": "reviewer",
                "criterion": "safety",
                "values": {_id(place, second): value for second, value in enumerate(pair)},
            }
        ]
        for place, pair in enumerate(acceptable.tolist())
    ]


def feedback(world: World, labels: Sequence[Sequence[dict[str, Any]]], batch: str = "batch-1") -> pl.DataFrame:
    """A corpus snapshot: ``FEEDBACK`` rows with their batch; response ids are unique over all rows."""
    groups = (
        (
            f"planted:{place}",
            FeedbackGroup.model_validate(
                {
                    "group_id": str(place),
                    "prompt": [{"role": "user", "content": prompt}],
                    "responses": [
                        {"response_id": _id(place, second), "content": text} for second, text in enumerate(pair)
                    ],
                    "labels": given,
                    "segment": segment,
                    "source": "planted",
                }
            ),
        )
        for place, (prompt, pair, given, segment) in enumerate(
            zip(world.prompt, world.answers, labels, world.segment, strict=True)
        )
    )
    return feedback_frame(groups).with_columns(batch=pl.lit(batch))


def noise_for(accuracy: float) -> float:
    """Spread of the noise with which a model has ``accuracy`` (above one half, below 1) on noiseless pairs."""
    return float(np.sqrt(1 / np.sin(np.pi * (accuracy - 0.5)) ** 2 - 1))


def noise(world: World, name: str, like: Mapping[str, float] | None = None, share: float = 0.0) -> dict[str, float]:
    """Noise of spread 1 for every word, uncorrelated with the true values inside each segment.

    Args:
        world: whose words.
        name: names the noise; equal names give equal noise.
        like: another noise to resemble.
        share: correlation with ``like``.
    """
    rng = np.random.default_rng([len(world.values), *name.encode()])
    result = {FILLER: 0.0, BRAND: 0.0}
    for segment in dict.fromkeys(world.segment):
        words = world.words(segment)
        against = [np.array([world.values[word] for word in words])]
        if like is not None:
            against.append(np.array([like[word] for word in words]))
        fresh = rng.normal(size=len(words))
        for other in against:  # they are uncorrelated with each other
            fresh = _standardized(fresh - other * np.mean(_standardized(fresh) * other) * fresh.std())
        mixed = fresh if like is None else share * against[1] + np.sqrt(1 - share**2) * fresh
        result |= dict(zip(words, mixed.tolist(), strict=True))
    return result


def model_values(
    world: World, error: Mapping[str, float], accuracy: float | Callable[[str], float]
) -> dict[str, float]:
    """Word values of a model with a known ``accuracy``, the same everywhere or by segment."""
    by_segment = {
        name: noise_for(accuracy(name) if callable(accuracy) else accuracy) for name in dict.fromkeys(world.segment)
    }
    spread = {word: by_segment[name] for name in by_segment for word in world.words(name)}
    return {word: value + spread.get(word, 0.0) * error[word] for word, value in world.values.items()}


def _id(place: int, second: int) -> str:
    """Of a response: the number of its prompt, then a or b."""
    return f"{place}-{'ab'[second]}"


def _standardized(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def _topics(rng: np.random.Generator) -> list[str]:
    """Pseudo-words for prompts, which no planted model knows."""
    letters = np.stack([rng.choice(kind, 2000) for kind in (_CONSONANTS, _VOWELS) * 3], axis=1)
    return ["".join(word) for word in letters]


def _answer(rng: np.random.Generator, vocabulary: Sequence[str]) -> str:
    words = [vocabulary[place] for place in rng.integers(len(vocabulary), size=_CORE)]
    words += [FILLER] * int(rng.integers(_MOST_FILLER + 1)) + [BRAND] * int(rng.random() < _BRAND_SHARE)
    return " ".join(words[place] for place in rng.permutation(len(words)))
