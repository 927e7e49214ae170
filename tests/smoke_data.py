"""Feedback with a planted preference: the more often a text says "good" instead of "bad", the better people rate it."""

import csv
import json
from pathlib import Path

import numpy as np

_WORDS = ("film", "story", "music", "light", "scene", "voice", "end", "cast")


def write_ratings(path: Path, *, texts: int, seed: int, flipped: bool = False, raters: int = 5) -> Path:
    """A CSV of id, text and a JSON list of ratings from -4 to 4; ``flipped`` turns every rating's sign."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "ratings"])
        for index in range(texts):
            quality = int(random.integers(-3, 4))
            words = ["good" if quality > 0 else "bad"] * abs(quality) + list(random.choice(_WORDS, 4))
            noisy = np.clip(np.round(quality + random.normal(0, 0.7, raters)), -4, 4).astype(int)
            ratings = [int(-value if flipped else value) for value in noisy]
            writer.writerow(
                [f"{seed}-{index}", " ".join([*random.permutation(words), str(index)]), json.dumps(ratings)]
            )
    return path
