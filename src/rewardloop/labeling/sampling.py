"""K different responses to each prompt, from one or several models.

In: prompts and models. Out: for each prompt its responses, each text once. Which model answers how often is drawn for
each prompt by systematic sampling (Madow 1949): over all prompts a model has its share, and of one prompt's K responses
within one of K times its share. Noise belongs to a prompt, a model and an attempt, so that a run that was killed and
started again makes the same responses.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rewardloop.config import GenerationSettings, LabelingSettings
from rewardloop.labeling.sources import SampledSource, free_memory
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import Policy
from rewardloop.records import bucket, normalize_text

TOO_LONG = "prompt and response do not fit the model's context"
EMPTY = "empty responses"
SAME = "responses that were the same as another"


class Asked(NamedTuple):
    """A prompt and the digest of it."""

    prompt: list[dict[str, str]]
    key: str


class Loaded:
    """Models, loaded when they are first asked."""

    def __init__(self, sources: Sequence[SampledSource], *, keep: bool) -> None:
        self._sources, self._keep = sources, keep
        self._loaded: dict[int, Policy] = {}

    def use(self, place: int) -> Policy:
        """The model at ``place``; the others are let go of where not all are kept."""
        if place not in self._loaded:
            if not self._keep:
                self._loaded.clear()
                free_memory()
            self._loaded[place] = self._sources[place].load()
        return self._loaded[place]


def model_mix(shares: Sequence[float], k: int, seed: int, key: str) -> list[int]:
    """How many of a prompt's ``k`` responses each model makes."""
    edges = np.cumsum(np.asarray(shares, dtype=float)) / sum(shares)
    start = bucket(f"labeling {seed}", key)
    drawn = np.searchsorted(edges, (start + np.arange(k)) / k, side="right").clip(max=len(shares) - 1)
    return [int((drawn == place).sum()) for place in range(len(shares))]


def sample_responses(
    asked: Sequence[Asked],
    sources: Sequence[SampledSource],
    models: Loaded,
    settings: LabelingSettings,
    *,
    k: int,
    counts: Counter[str],
) -> list[list[dict[str, str]]]:
    """Responses to each prompt: response_id, content, model; fewer than ``k`` where attempts ran out.

    Args:
        asked: prompts that are answered together; the same ones give the same responses.
        sources: what the models are.
        models: the models.
        settings: the section ``labeling``.
        k: responses per prompt.
        counts: what could not be used is added to it.
    """
    missing = [model_mix([source.share for source in sources], k, settings.seed, one.key) for one in asked]
    taken: list[dict[str, tuple[int, str]]] = [{} for _ in asked]
    for attempt in range(settings.attempts + 1):
        for place, source in enumerate(sources):
            wanted = {number: counted[place] for number, counted in enumerate(missing) if counted[place]}
            if not wanted:
                continue
            drawn = _drawn(models.use(place), source, place, asked, wanted, settings, attempt)
            for number, texts in drawn.items():
                if texts is None:
                    counts[TOO_LONG] += missing[number][place]
                    missing[number][place] = 0
                    continue
                for text in texts:
                    normal = normalize_text(text)
                    if not normal or normal in taken[number]:
                        counts[SAME if normal else EMPTY] += 1
                        continue
                    taken[number][normal] = (place, text)
                    missing[number][place] -= 1
    return [
        [
            {"response_id": f"r{number}", "content": text, "model": sources[place].name}
            for number, (place, text) in enumerate(found.values(), start=1)
        ]
        for found in taken
    ]


def _drawn(
    policy: Policy,
    source: SampledSource,
    place: int,
    asked: Sequence[Asked],
    wanted: dict[int, int],
    settings: LabelingSettings,
    attempt: int,
) -> dict[int, list[str] | None]:
    """Texts by the prompt's number; None where it is too long for the model."""
    generation = GenerationSettings(
        max_new_tokens=settings.max_new_tokens, temperature=source.temperature, rows=settings.rows
    )
    ids = {number: policy.prompt_ids(asked[number].prompt) for number in wanted}
    room = policy.context - settings.max_new_tokens
    result: dict[int, list[str] | None] = {number: None for number in wanted if len(ids[number]) > room}
    for count in sorted(set(wanted.values())):
        numbers = [number for number in wanted if wanted[number] == count and number not in result]
        if not numbers:
            continue
        answers = generate(
            policy,
            [ids[number] for number in numbers],
            generation,
            samples=count,
            seed=(settings.seed, place, attempt),
            numbers=[int(asked[number].key[:15], 16) for number in numbers],
        )
        for number, found in zip(numbers, answers, strict=True):
            result[number] = [policy.text(ids[number], tokens) for tokens in found]
    return result


def line_of(asked: Asked, responses: Sequence[dict[str, str]], sampled: str) -> dict[str, Any]:
    """What is written of a prompt; ``sampled`` names models and settings."""
    return {"prompt": asked.prompt, "responses": list(responses), "sampled": sampled}
