"""Models and programs as labelers beside people: how far they agree with people, and what their votes count for that.

In: people's weighted votes, and those of the others. Out: one line and one weight per model or program. Where nobody of
the two kinds is missing, people's reliability, ratings, verdicts and held-out pairs are taken from people alone; what
no person judged is trained on by the weight of who did, and not evaluated on.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from rewardloop.agreement import agreement_of
from rewardloop.config import ModelLabelerSettings
from rewardloop.exact import exact_interval
from rewardloop.preferences.answers import labeler_kinds
from rewardloop.preferences.habits import independent
from rewardloop.preferences.reliability import LABELER

BY_CHANCE = "agrees with people no more than chance"
ALL_ALIKE = "agreement with people is not known: on the pairs that both judged nothing varies (all are ties, say)"
UNTRUSTED = "judged only by models or programs of weight 0"
NOT_BY_PEOPLE = "no person judged it, so it is not evaluated on (preferences.model_labelers.held_out)"
_PAIR = ["a", "b"]
_PEOPLE = pl.col("labeler_kind") == "human"
_TIE = 1e-9
_LEVEL = 0.95


class BesidePeople(NamedTuple):
    """``lines``: rows as of ``judge_labelers`` with ``alpha``, ``alpha_low`` and ``alpha_high``; ``weights``: who,
    segment, weight; ``trust``: a, b and trust of the pairs that no person judged."""

    lines: pl.DataFrame
    weights: pl.DataFrame
    trust: pl.DataFrame
    words: str


def machines(values: pl.DataFrame) -> pl.DataFrame:
    """who, machine, labeler_kind of models and programs; no row where people alone judged, or none of them did.

    ``machine`` is the labeler; all without an identity are one machine per kind, since nobody can tell them apart.
    """
    none = pl.DataFrame(schema={"who": pl.Int64, "machine": pl.String, "labeler_kind": pl.String})
    people = values.select(_PEOPLE.sum()).item()
    if people in (0, len(values)):
        return none
    kinds = labeler_kinds(values, "who").filter(pl.col("labeler_kind").is_in(["model", "signal"]))
    names = values.select("who", "labeler").unique("who")
    return kinds.join(names, on="who").select(
        pl.col("who").cast(pl.Int64),
        pl.coalesce("labeler", pl.format("{} without identity", "labeler_kind")).alias("machine"),
        "labeler_kind",
    )


def of_people(values: pl.DataFrame) -> pl.DataFrame:
    """``values`` without those of models and programs on criteria that people judged, in whatever way.

    Where people compared answers and a model rated them, its ratings must not be taken for people's.
    """
    if values.select(_PEOPLE.all()).item():
        return values
    asked = values.filter(_PEOPLE)["criterion"].unique()
    return pl.concat([values.filter(_PEOPLE), values.filter(~_PEOPLE & ~pl.col("criterion").is_in(asked.implode()))])


def feedback_of_people(feedback: pl.DataFrame) -> pl.DataFrame:
    """``FEEDBACK`` rows without labels of models and programs on the criteria that people judged too."""
    labels = feedback.select(pl.col("labels").explode()).unnest("labels").select("labeler_kind", "criterion").unique()
    asked = labels.filter(_PEOPLE)["criterion"].unique()
    if labels.filter(~_PEOPLE & pl.col("criterion").is_in(asked.implode())).is_empty():
        return feedback
    one = pl.element().struct
    theirs = (one.field("labeler_kind") == "human") | ~one.field("criterion").is_in(asked.to_list())
    return feedback.with_columns(pl.col("labels").list.filter(theirs)).filter(pl.col("labels").list.len() > 0)


def beside_people(
    cast: pl.DataFrame,
    people: pl.DataFrame,
    others: pl.DataFrame,
    *,
    values: pl.DataFrame,
    pairs: pl.DataFrame,
    settings: ModelLabelerSettings,
    seed: int,
) -> BesidePeople:
    """Weigh models and programs.

    Args:
        cast: ``consensus.votes`` of everybody.
        people: a, b, p: what people together say (``consensus``).
        others: ``machines``.
        values: ``Answers.values`` of the criterion.
        pairs: a, b, bunch.
        settings: ``preferences.model_labelers``.
        seed: of the interval's resamples.
    """
    named = others.with_columns(pl.col("who").cast(cast.schema["who"]))
    theirs = cast.join(named, on="who").group_by(*_PAIR, "machine", "labeler_kind").agg(pl.col("vote").mean())
    shared = theirs.join(people.select(*_PAIR, "p"), on=_PAIR)
    votes_of, shared_of = (frame.partition_by("machine", as_dict=True) for frame in (theirs, shared))
    none = shared.clear()
    lines = pl.DataFrame(
        [
            _line(
                machine,
                kind,
                len(votes_of.get((machine,), none)),
                shared_of.get((machine,), none),
                pairs,
                settings,
                seed,
            )
            for machine, kind in others.select("machine", "labeler_kind").unique().sort("machine").iter_rows()
        ],
        schema_overrides=_TYPES,
    )
    of_machine = lines.select(pl.col("labeler").alias("machine"), "weight")
    weights = (
        values.select(LABELER)
        .unique()
        .join(others.with_columns(pl.col("who").cast(values.schema["who"])), on="who")
        .join(of_machine, on="machine")
        .select(*LABELER, "weight")
    )
    trust = (
        theirs.join(people, on=_PAIR, how="anti")
        .join(of_machine, on="machine")
        .group_by(_PAIR)
        .agg(pl.col("weight").max().clip(0, 1).alias("trust"))
    )
    how = "by their agreement with people" if settings.weight == "agreement" else f"{settings.weight:g} each"
    words = f"; {len(lines):,} models or programs beside people, weighted {how}"
    return BesidePeople(lines, weights, trust, words)


_NUMBERS = ("q", "agreement", "low", "high", "compared", "alpha", "alpha_low", "alpha_high", "weight")
_TYPES: dict[str, pl.DataType] = {
    "segment": pl.String(),
    "findings": pl.List(pl.String),
    **dict.fromkeys(_NUMBERS, pl.Float64()),
}


def _line(
    machine: str,
    kind: str,
    votes: int,
    shared: pl.DataFrame,
    pairs: pl.DataFrame,
    settings: ModelLabelerSettings,
    seed: int,
) -> dict[str, object]:
    """Votes and people's consensus are compared as first, tie, second: Krippendorff's alpha of the two (nominal)."""
    lead = pl.col("p") - 0.5
    sides = shared.sort(_PAIR).with_columns(
        (pl.col("vote") - 0.5).sign().alias("side"),
        pl.when(lead.abs() <= _TIE).then(0.0).otherwise(lead.sign()).alias("consensus"),
    )
    # Which answer is called a says nothing, but where it always is the better one chance would seem to explain that.
    mirror = pl.Series("mirror", np.random.default_rng(seed).choice([-1.0, 1.0], len(sides)))
    sides = sides.with_columns(pl.col("side", "consensus") * mirror)
    units = pl.concat(
        [sides.select(pl.struct(_PAIR).alias("unit"), pl.lit(who).alias("who"), pl.col(who).alias("value"))
         for who in ("side", "consensus")]
    )  # fmt: skip
    known = agreement_of(units, "nominal", seed=seed) if len(sides) >= settings.min_shared else None
    alpha, low = (None, None) if known is None else (known.alpha, known.low)
    share: float | None = None
    low_end: float | None = None
    high_end: float | None = None
    counted = independent(sides.join(pairs, on=_PAIR), ["machine"])["independent"].sum() if len(sides) else 0.0
    if counted:
        share = float(1 - sides.select((pl.col("side") - pl.col("consensus")).abs().mean()).item() / 2)
        low_end, high_end = (float(end[0]) for end in exact_interval(np.array([share]), np.array([counted]), _LEVEL))
    if settings.weight != "agreement":
        weight = float(settings.weight)
    else:
        weight = settings.unproven if low is None else max(0.0, low)
    findings = [BY_CHANCE] if low is not None and low <= 0 else []
    if known is not None and low is None:
        findings = [ALL_ALIKE]
    return {
        "labeler": machine,
        "segment": None,
        "labeler_kind": kind,
        "q": None,
        "weight": weight,
        "votes": votes,
        "agreement": share,
        "low": low_end,
        "high": high_end,
        "compared": float(counted),
        "findings": findings,
        "alpha": alpha if low is not None else None,
        "alpha_low": low,
        "alpha_high": None if known is None else known.high,
    }
