"""What DPO learns from: the best and the worst of the start's answers to a prompt.

In: the start policy, prompts, settings and the reward. Out: pairs as tokens, and what the answers were like. They are
kept beside the trainer's checkpoints, so that a training that goes on does not sample anew.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewardloop.config import AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import Policy
from rewardloop.modeling.scoring import Messages
from rewardloop.training.collapse import facts_of
from rewardloop.training.order import cycled


@dataclass
class Pairs:
    """Chosen and rejected answers of the start, and all its answers in numbers."""

    rows: list[dict[str, list[int]]]
    """prompt_ids, chosen_ids, rejected_ids: an end token only where the policy came to an end."""
    answers: dict[str, float]
    """reward, length, unfinished, distinct_bigrams: over all answers."""
    episodes: int
    tokens: int
    seconds: float


def sample_pairs(
    start: Policy,
    prompts: Sequence[Messages],
    settings: AlignSettings,
    reward: Callable[[Sequence[Messages], Sequence[str], Sequence[bool]], NDArray[np.float64]],
    folder: Path,
) -> Pairs:
    """Answer prompts ``samples_per_prompt`` times, ``episodes`` answers in all, and pair the best with the worst.

    Prompts come in seeded passes, as many as are needed. A prompt whose answers are all worth the same, or of which
    fewer than two can be scored, gives no pair.

    Raises:
        BadInputError: no prompt gives a pair.
    """
    kept = folder / "pairs.json"
    if kept.is_file():
        return Pairs(**json.loads(kept.read_text(encoding="utf-8")))
    began = time.monotonic()
    count = settings.samples_per_prompt
    wanted = math.ceil(settings.episodes / count)
    asked = [prompts[place] for place in cycled(len(prompts), wanted, 0, settings.seed)]
    ids = [start.prompt_ids(prompt) for prompt in asked]
    answers = generate(start, ids, settings.generation, samples=count, seed=settings.seed)
    flat = [answer for group in answers for answer in group]
    finished = [start.finished(answer) for answer in flat]
    texts = [start.text(prompt, answer) for prompt, group in zip(ids, answers, strict=True) for answer in group]
    scores = np.asarray(reward([prompt for prompt in asked for _ in range(count)], texts, finished))
    rows = []
    for prompt, group, values in zip(ids, answers, scores.reshape(-1, count), strict=True):
        known = values[np.isfinite(values)]
        if len(known) < 2 or known.max() == known.min():
            continue
        best, worst = int(np.nanargmax(values)), int(np.nanargmin(values))
        rows.append({"prompt_ids": prompt, "chosen_ids": group[best], "rejected_ids": group[worst]})
    if not rows:
        raise BadInputError(
            f"align.prompts: of {len(asked)} prompts none has two answers of the start with different rewards; raise "
            "align.samples_per_prompt or align.generation.temperature"
        )
    facts = facts_of(flat, finished, [not text.strip() for text in texts])
    pairs = Pairs(
        rows=rows,
        answers={
            "reward": float(np.nanmean(scores)),
            "length": facts.length,
            "unfinished": facts.unfinished,
            "distinct_bigrams": facts.distinct_bigrams,
        },
        episodes=len(flat),
        tokens=sum(map(len, flat)),
        seconds=round(time.monotonic() - began, 3),
    )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(pairs)), encoding="utf-8")
    temporary.replace(kept)
    return pairs
