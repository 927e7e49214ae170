"""Is the weighted consensus nearer to the truth than a majority vote, and nearer to people it has not heard?

In: seeds, or folders with real labels. Out: accuracy of the order that ``preferences.build`` recovers beside that of
the majority of the same votes; on real labels, agreement with the votes of labelers who were left out altogether.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.decisions import generator, real_labels
from benchmarks.decisions.generator import Labelers
from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.preferences.build import build

PAIRS, LABELERS, VOTES = 3000, 50, 3
_RANDOM, _REVERSED, _HONEST = 0.5, 0.1, 0.85
_FOLDS = 10
_ALL_TRAINED = SplitSettings(train=1.0, validation=0.0, calibration=0.0, test=0.0, golden=0.0)


def planted(seeds: int) -> dict[str, Any]:
    """20% of the labelers answer at random, 10% reverse, the others are right 85% of the time."""
    accuracy = [_RANDOM] * (LABELERS // 5) + [_REVERSED] * (LABELERS // 10)
    labelers = Labelers(accuracy + [_HONEST] * (LABELERS - len(accuracy)))
    found = np.array([_one_world(labelers, seed) for seed in range(seeds)])
    weighted, majority = found.mean(axis=0).tolist()
    return {
        "gain_points": round(100 * (weighted - majority), 2),
        "lowest_gain_points": round(100 * float((found[:, 0] - found[:, 1]).min()), 2),
        "accuracy": round(weighted, 4),
        "majority_accuracy": round(majority, 4),
        "worlds": seeds,
    }


def left_out(feedback: pl.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Agreement with labelers who are left out, a tenth of them at a time; undecided counts one half.

    Args:
        feedback: ``FEEDBACK`` rows with named labelers; response ids are unique over all rows.
        seed: who is left out together.
    """
    # Rows with equal texts would be one group for the consensus and two for the majority.
    feedback = feedback.unique("content", keep="first", maintain_order=True)
    cast = real_labels.votes(feedback)
    people = cast["who"].unique().sort()
    fold = pl.DataFrame(
        {"who": people, "fold": np.random.default_rng(seed).permutation(len(people)) % min(_FOLDS, len(people))}
    )
    cast = cast.join(fold, on="who")
    parts = []
    for number in fold["fold"].unique().sort():
        heard, unheard = cast.filter(pl.col("fold") != number), cast.filter(pl.col("fold") == number)
        names = fold.filter(pl.col("fold") != number)["who"].to_list()
        parts.append(
            unheard.filter(pl.col("vote") != 0.5)
            .join(_majority(heard), on=["a", "b"])
            .join(_consensus(real_labels.only(feedback, names)), on=["a", "b"])
        )
    votes = pl.concat(parts)
    agreed = {name: _agreement(votes[name], votes["vote"]) for name in ("p", "majority")}
    return {
        "agreement": round(agreed["p"], 4),
        "majority_agreement": round(agreed["majority"], 4),
        "gain_points": round(100 * (agreed["p"] - agreed["majority"]), 2),
        "votes": len(votes),
        "labelers": len(people),
    }


def real(politeness: Path, ukp: Path) -> dict[str, Any]:
    """Real labels by path; a word where a folder is not there."""
    result: dict[str, Any] = {}
    for name, folder, read in (
        ("politeness", politeness, real_labels.politeness),
        ("ukpconvarg1", ukp, real_labels.ukpconvarg1),
    ):
        if not folder.is_dir():
            result[name] = {"skipped": f"{folder}: there is no such folder"}
            continue
        feedback = read(folder)
        length_only = real_labels.length_only_accuracy(feedback)
        result[name] = left_out(feedback) | {"length_only_accuracy": round(length_only, 4)}
    return result


def _one_world(labelers: Labelers, seed: int) -> tuple[float, float]:
    """Accuracy of the weighted consensus and of the majority against the planted order."""
    world = generator.make_world(seed, {"code": PAIRS})
    quality, rng = world.quality(), np.random.default_rng([seed, 6])
    who = labelers.draw(PAIRS, VOTES, rng)
    first = labelers.choices(quality, who, rng)
    frame = generator.feedback(world, generator.choice_labels(who, first))
    truth = pl.DataFrame(
        {
            "a": [f"{place}-a" for place in range(PAIRS)],
            "b": [f"{place}-b" for place in range(PAIRS)],
            "vote": (quality[:, 0] > quality[:, 1]).astype(float),
        }
    )
    known = truth.join(_consensus(frame), on=["a", "b"]).join(_majority(real_labels.votes(frame)), on=["a", "b"])
    return (
        _agreement(known["p"], known["vote"]),
        _agreement(known["majority"], known["vote"]),
    )


def _consensus(feedback: pl.DataFrame) -> pl.DataFrame:
    """a, b (response ids, a before b) and p, as ``build_preferences`` would have them."""
    built = build(
        feedback,
        preferences=PreferenceSettings(),
        splits=_ALL_TRAINED,
        evaluation=EvaluationSettings(),
        golden=frozenset(),
    )
    names = built.items["response_id"]
    pairs = pl.DataFrame(
        {"a": names[built.pairs["a"].to_list()], "b": names[built.pairs["b"].to_list()], "p": built.pairs["p"]}
    )
    return real_labels.in_order(pairs, "p")


def _majority(cast: pl.DataFrame) -> pl.DataFrame:
    return cast.group_by("a", "b").agg(pl.col("vote").mean().alias("majority"))


def _agreement(p: pl.Series, vote: pl.Series) -> float:
    """Mean of 1 where p leans the way of the vote, 0 where the other way, one half where it does not lean."""
    leans = np.sign(np.round(p.to_numpy() - 0.5, 9))
    return float(np.mean(0.5 + leans * (vote.to_numpy() - 0.5)))
