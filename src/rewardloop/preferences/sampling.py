"""What labelers of a large corpus are worth, how far they agree, how well one predicts the others: on a sample.

In: who judged what in each batch, and the rows of those who are drawn. Out: weights for all parts, and evidence.

The sample has groups of every labeler, and comes from the oldest batches that hold the largest of 60,000, 71,352,
84,853, ... (times the fourth root of 2) rows that the corpus has: at least 84% of it. So it is drawn anew each time the
corpus has grown by a fifth, and a batch that comes between changes no weight and no part that was built. Whoever is in
newer batches only is weighed by a second sample, the first one with groups of those newcomers; it changes the weights
of the newcomers alone.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from pydantic import TypeAdapter

from rewardloop.evidence import Estimate
from rewardloop.kept import Kept, code_fingerprint, key_of
from rewardloop.preferences.build import build
from rewardloop.preferences.large_corpus import Given
from rewardloop.preferences.opinions import Opinions
from rewardloop.preferences.survey import Facts
from rewardloop.preferences.told import Told, tell

KIND = "labelers"
"""Of kept results."""
_SAMPLE = 60_000
"""Most groups that are drawn."""
_STEPS = 4
"""Samples are drawn anew so often while a corpus grows to twice its size."""
_BETWEEN = TypeAdapter(dict[str, dict[str, Estimate]])


class Judged(NamedTuple):
    """What a sample tells; ``opinions`` has no votes and no values."""

    sample: pl.DataFrame
    opinions: Opinions
    one_labeler: Estimate | None
    acceptability: str
    told: Told


def covered(facts: Sequence[Facts], large: int) -> int:
    """How many of the oldest batches the sample comes from.

    Ratings that only newer batches have move the end to the first of them: the scale of ratings is found on the sample.
    """
    total = sum(one.rows for one in facts)
    steps = math.floor(_STEPS * math.log2(max(total / large, 1)) + 1e-9)
    wanted, rows, count = min(total, large * 2 ** (steps / _STEPS)), 0, 0
    while rows < wanted:
        rows += facts[count].rows
        count += 1
    if not any(one.ratings for one in facts[:count]):
        count = next((place + 1 for place, one in enumerate(facts) if one.ratings), count)
    return count


def newcomers(facts: Sequence[Facts], count: int) -> frozenset[tuple[str, str | None]]:
    """Labelers, by segment, who are in none of the first ``count`` batches."""
    old = frozenset().union(*(one.labelers for one in facts[:count]))
    return frozenset().union(*(one.labelers for one in facts[count:])) - old


def draw(asked: pl.DataFrame, at_most: int) -> pl.Series:
    """The groups with the lowest hashes, for each labeler as many as ``at_most`` pairs need.

    Args:
        asked: content (a number), labeler, pairs.
        at_most: pairs of one labeler.
    """
    order = (
        asked.group_by("content", "labeler")
        .agg(pl.col("pairs").max())
        .sort("content")
        .with_columns(pl.col("pairs").cum_sum().over("labeler").alias("before") - pl.col("pairs"))
    )
    return order.filter(pl.col("before") < at_most)["content"].unique().sort().head(_SAMPLE)


def judge(sample: pl.DataFrame, given: Given) -> Judged:
    """Look at a sample as at a whole corpus."""
    sample = sample.sort("content", "record")
    anything = given.preferences.model_copy(update={"acceptable_from": "auto"})
    looked = build(
        sample,
        preferences=anything,
        splits=given.splits,
        evaluation=given.evaluation,
        golden=given.golden,
        is_sample=True,
    )
    empty = pl.DataFrame()
    known = looked.opinions._replace(votes=empty, values=empty, people=empty, names=empty, trust=None)
    return Judged(sample, known, looked.one_labeler, looked.acceptability, tell(sample, given.preferences, known))


def with_newcomers(first: Judged, second: Judged, new: frozenset[tuple[str, str | None]], given: Given) -> Judged:
    """The weights of the first sample, and of the second those of the newcomers."""
    who = pl.DataFrame(sorted(new, key=str), schema={"labeler": pl.String, "segment": pl.String}, orient="row")
    theirs = second.opinions.labelers.join(who, on=["labeler", "segment"], how="semi", nulls_equal=True)
    labelers = pl.concat([first.opinions.labelers, theirs], how="diagonal_relaxed").sort(
        "votes", "labeler", "segment", descending=[True, False, False]
    )
    levels, other = first.opinions.levels, second.opinions.levels
    if levels is not None and other is not None:
        added = other.filter(pl.col("labeler").is_not_null()).join(levels, on="labeler", how="anti")
        levels = pl.concat([levels, added.sort("labeler")])
    words = f"{second.opinions.words}; {len(new):,} of them only in the newest batches"
    opinions = second.opinions._replace(labelers=labelers, levels=levels, words=words)
    return second._replace(opinions=opinions, told=tell(second.sample, given.preferences, opinions))


def sample_key(contents: Sequence[str], ages: object, given: Given, **more: Any) -> str:
    """Names what decides a sample's verdict: its batches, what their labels weigh, the settings and the code."""
    return key_of(
        contents=list(contents),
        ages=ages,
        preferences=given.preferences.model_dump(mode="json"),
        splits=given.splits.model_dump(mode="json"),
        evaluation=given.evaluation.model_dump(mode="json"),
        golden=sorted(given.golden),
        code=code_fingerprint("preferences"),
        **more,
    )


def judged_files(judged: Judged, folder: Path) -> dict[str, Path | bytes]:
    """What a sample told, as files to keep; tables are written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    judged.sample.write_parquet(folder / "sample.parquet", compression_level=1)
    judged.opinions.labelers.write_parquet(folder / "labelers.parquet")
    content: dict[str, Path | bytes] = {name: folder / name for name in ("sample.parquet", "labelers.parquet")}
    if judged.opinions.levels is not None:
        judged.opinions.levels.write_parquet(folder / "levels.parquet")
        content["levels.parquet"] = folder / "levels.parquet"
    content["told.json"] = judged.told.model_dump_json().encode()
    content["between.json"] = _BETWEEN.dump_json(judged.opinions.between)
    content["acceptability.txt"] = judged.acceptability.encode()
    if judged.one_labeler is not None:
        content["one_labeler.json"] = judged.one_labeler.model_dump_json().encode()
    return content


def read_judged(kept: Kept, key: str, folder: Path) -> Judged | None:
    """What a sample told, where it is kept."""
    found = kept.fetch(KIND, key, folder)
    if found is None:
        return None
    told = Told.model_validate_json(found["told.json"].read_bytes())
    empty, one = pl.DataFrame(), found.get("one_labeler.json")
    opinions = Opinions(
        votes=empty,
        values=empty,
        names=empty,
        labelers=pl.read_parquet(found["labelers.parquet"]),
        words=told.reliability,
        between=_BETWEEN.validate_json(found["between.json"].read_bytes()),
        people=empty,
        levels=pl.read_parquet(found["levels.parquet"]) if "levels.parquet" in found else None,
    )
    return Judged(
        sample=pl.read_parquet(found["sample.parquet"]),
        opinions=opinions,
        one_labeler=None if one is None else Estimate.model_validate_json(one.read_bytes()),
        acceptability=found["acceptability.txt"].read_text(),
        told=told,
    )
