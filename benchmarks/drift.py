"""How often the drift check cries wolf, and how often it sees a shift: the rule against its two halves alone.

    python -m benchmarks.drift

In: nothing; scores are drawn from a normal distribution, and again shifted by a part of its standard deviation. Out:
the share of repeats in which anything drifted, by the rule (index and corrected test), by the test alone, by the index
alone.
"""

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import polars as pl
import typer

from rewardloop.config import DriftSettings
from rewardloop.evaluation.reference import REFERENCE
from rewardloop.operation.decisions import DECISIONS
from rewardloop.operation.drift import compare

SIZES = ((100, 200), (300, 500), (1_000, 20_000))
"""Answers of the reference, decisions."""
SHIFTS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Of the mean score, in standard deviations."""


@dataclass(frozen=True)
class Row:
    """Shares of ``repeats`` in which any distribution of two segments drifted."""

    reference: int
    decisions: int
    shift: float
    drifted: float
    test_alone: float
    index_alone: float


def draw(count: int, shift: float, random: np.random.Generator, schema: pl.Schema) -> pl.DataFrame:
    """Answers of two equal segments; accepted from score 0 on."""
    score = random.normal(shift, 1, count)
    columns = {
        "score": score,
        "decision": np.where(score >= 0, "accept", "block"),
        "prompt_characters": random.integers(0, 50, count),
        "response_characters": random.integers(20, 200, count),
        "segment": random.choice(["a", "b"], count),
    }
    return pl.DataFrame({name: columns.get(name, [None] * count) for name in schema}, schema=schema)


def measure(reference: int, decisions: int, shift: float, repeats: int) -> Row:
    """One size and shift; repeat number r is drawn with seed r."""
    settings = DriftSettings()
    found = []
    for seed in range(repeats):
        random = np.random.default_rng(seed)
        lines = compare(draw(reference, 0, random, REFERENCE), draw(decisions, shift, random, DECISIONS), settings)
        found.append(
            (
                any(line.drifted for line in lines),
                any(line.corrected is not None and line.corrected < settings.level for line in lines),
                any(line.psi is not None and line.psi > settings.max_psi for line in lines),
            )
        )
    rule, test, index = np.mean(found, axis=0).tolist()
    return Row(reference, decisions, shift, rule, test, index)


def main(repeats: Annotated[int, typer.Option(min=1, help="Per size and shift.")] = 200) -> None:
    """Measure, print a line each, and one JSON object last."""
    rows = []
    for reference, decisions in SIZES:
        for shift in SHIFTS:
            row = measure(reference, decisions, shift, repeats)
            rows.append(row)
            print(
                f"{reference:6,} reference, {decisions:6,} decisions, shift {shift:4}: drifted {row.drifted:6.1%}, "
                f"test alone {row.test_alone:6.1%}, index alone {row.index_alone:6.1%}",
                flush=True,
            )
    print(json.dumps({"repeats": repeats, "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    typer.run(main)
