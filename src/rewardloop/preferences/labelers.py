"""Each labeler by pseudonym: how far he agrees with the others, what his votes count, and what is wrong with them.

In: weighted votes. Out: one line per labeler and segment, and the weights that findings change. A labeler who answers
at random or reverses everyone loses his weight by his reliability; one who goes by position or length is found here
and loses all of it.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import betainc

from rewardloop.config import ReliabilitySettings
from rewardloop.evidence import Estimate, LabelerLine
from rewardloop.exact import exact_interval, holm
from rewardloop.preferences.answers import labeler_kinds
from rewardloop.preferences.habits import facts
from rewardloop.preferences.reliability import LABELER, Reliability

RANDOM, REVERSED = "answers at random", "reverses everyone"
FIRST, LAST, LONGEST = "always the first", "always the last", "always the longest"
_HABITS = (FIRST, LAST, LONGEST)
_LEVEL = 0.95
_SHOWN = 50
"""Lines without findings; evidence is read by people."""

Floats = NDArray[np.float64]


def judge_labelers(
    cast: pl.DataFrame,
    trusted: Reliability,
    *,
    pairs: pl.DataFrame,
    answers: pl.DataFrame,
    values: pl.DataFrame,
    settings: ReliabilitySettings,
) -> pl.DataFrame:
    """One row per labeler and segment: who, segment, labeler, labeler_kind, q, weight, votes, agreement, low, high,
    compared (independent comparisons) and findings.

    Args:
        cast: ``consensus.votes`` with the weights of ``trusted``.
        trusted: ``reliability`` of the same votes.
        pairs: a, b, bunch: what was compared in one group.
        answers: answer, response.
        values: ``Answers.values``, for names and kinds.
        settings: ``preferences.reliability``.
    """
    names = values.filter(pl.col("who") > 0).group_by("who").agg(pl.col("labeler").first())
    lines = (
        trusted.labelers.join(facts(cast, pairs, answers), on=LABELER, how="left", nulls_equal=True)
        .join(names, on="who")
        .join(labeler_kinds(values, "who"), on="who")
        .sort("votes", "labeler", "segment", descending=[True, False, False])
    )
    if lines.is_empty():
        return lines.with_columns(*(pl.lit(None, pl.Float64).alias(name) for name in ("low", "high")), _no_findings())
    low, high = exact_interval(lines["agreement"].to_numpy(), lines["compared"].to_numpy(), _LEVEL)
    lines = lines.with_columns(pl.Series("low", low).fill_nan(None), pl.Series("high", high).fill_nan(None))
    found = _findings(lines, settings)
    lines = lines.with_columns(pl.Series("findings", found, dtype=pl.List(pl.String)))
    if settings.method == "none":
        return lines
    by_habit = pl.any_horizontal(pl.col("findings").list.contains(habit) for habit in _HABITS)
    return lines.with_columns(pl.when(by_habit).then(0.0).otherwise("weight").alias("weight"))


def labeler_lines(judged: pl.DataFrame) -> list[LabelerLine]:
    """Evidence of ``judge_labelers``: every labeler with findings, then the others with most votes."""
    wrong = judged.filter(pl.col("findings").list.len() > 0)
    rest = judged.filter(pl.col("findings").list.len() == 0).head(_SHOWN)
    return [_line(row) for row in pl.concat([wrong, rest]).iter_rows(named=True)]


def _above(share: Floats, count: Floats, expected: Floats) -> Floats:
    """p-value of a share above ``expected`` (exact binomial, one-sided); 1 where nothing can be said."""
    k = share * count
    known = (count > 0) & np.isfinite(expected) & (k > 0)
    p = np.ones(len(k))
    p[known] = betainc(k[known], count[known] - k[known] + 1, np.minimum(expected[known], 1))
    return p


def _findings(lines: pl.DataFrame, settings: ReliabilitySettings) -> list[list[str]]:
    of = {name: lines[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in _NUMBERS}
    typical = lines.select(pl.col("agreement").median().over("segment")).to_series().fill_null(np.nan).to_numpy()
    with np.errstate(invalid="ignore"):
        first, last, longest = (
            (share > least) & (holm(_above(share, count, expected)) < 1 - _LEVEL)
            for share, count, expected, least in (
                (of["first"], of["placed"], of["first_expected"], settings.position_share),
                (1 - of["first"], of["placed"], of["last_expected"], settings.position_share),
                (of["longer"], of["unequal"], of["longer_expected"], settings.length_share),
            )
        )
        # Where the longer (or first) answer is better, good labelers prefer it too: what tells is where others do not.
        longest &= of["longer_against"] > settings.length_share
        first &= ~(of["first_against"] <= settings.position_share)
        last &= ~(of["last_against"] <= settings.position_share)
        at_random = (of["low"] <= 0.5) & (of["high"] >= 0.5) & (of["high"] < typical) & ~(first | last | longest)
        masks = {RANDOM: at_random, REVERSED: of["high"] < 0.5, FIRST: first, LAST: last, LONGEST: longest}
    return [[words for words, mask in masks.items() if mask[row]] for row in range(len(lines))]


_NUMBERS = (
    *("low", "high", "first", "placed", "first_expected", "last_expected"),
    *("longer", "unequal", "longer_expected", "longer_against"),
    *("first_against", "last_against"),
)


def _no_findings() -> pl.Expr:
    return pl.lit([], pl.List(pl.String)).alias("findings")


def _line(row: dict[str, Any]) -> LabelerLine:
    agreement = None
    if row["low"] is not None:
        agreement = Estimate(
            value=row["agreement"], low=row["low"], high=row["high"], level=_LEVEL,
            count=round(row["compared"]), unit="independent comparisons",
        )  # fmt: skip
    with_people = None
    if row.get("alpha_low") is not None:
        with_people = Estimate(
            value=row["alpha"], low=row["alpha_low"], high=row["alpha_high"], level=_LEVEL,
            count=round(row["compared"]), unit="independent comparisons",
        )  # fmt: skip
    return LabelerLine.model_validate(
        {name: row[name] for name in ("labeler", "segment", "votes", "weight", "findings")}
        | {
            "kind": row["labeler_kind"],
            "reliability": row["q"],
            "agreement": agreement,
            "alpha_with_people": with_people,
        }
    )
