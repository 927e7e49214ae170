"""Small items and pairs for tests of the evaluation."""

import numpy as np
import polars as pl

from rewardloop.tables import ITEMS, PAIRS


def tables(seed: int = 0, *, per_split: int = 60, segments: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Single texts with ratings in every split; better texts say "good" more often. All pairs inside a split."""
    random = np.random.default_rng(seed)
    rows, pairs = [], []
    for split in ("train", "validation", "calibration", "test", "golden"):
        quality = random.normal(size=per_split)
        for index, value in enumerate(quality):
            words = ["good" if value > 0 else "bad"] * (1 + round(2 * abs(value))) + [f"film {index}"]
            rows.append(
                {
                    "item": len(rows),
                    "group": -1,
                    "split": split,
                    "document": f"{split}-{index}",
                    "segment": f"s{index % segments}",
                    "prompt": [],
                    "response": " ".join(words),
                    "response_id": "a",
                    "rating": value,
                    "acceptable": bool(value > 0),
                    "labels": 3,
                    "random": True,
                }
            )
        if split == "calibration":
            continue
        first = len(rows) - per_split
        for a in range(per_split):
            for b in range(a + 1, per_split):
                gap = quality[a] - quality[b]
                p = 1 / (1 + np.exp(-4 * gap))
                pairs.append(
                    {"split": split, "group": -1, "a": first + a, "b": first + b, "p": p, "votes": 3, "gap": abs(gap)}
                )
    return pl.DataFrame(rows, schema=ITEMS), pl.DataFrame(pairs, schema=PAIRS)
