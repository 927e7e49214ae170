"""All that labelers say on the trained criterion, weighed: by segment, by reliability, by habits that were found.

In: pairs and ``Answers.values``. Out: votes and values with their weights, and what is known of labelers and segments.
Where models or programs judged beside people, people are weighed by themselves first, and the others by them.
"""

from typing import NamedTuple

import polars as pl

from rewardloop.config import ModelLabelerSettings, ReliabilitySettings
from rewardloop.evidence import Estimate
from rewardloop.preferences.consensus import consensus, votes
from rewardloop.preferences.labelers import judge_labelers
from rewardloop.preferences.model_labelers import BesidePeople, beside_people, machines
from rewardloop.preferences.reliability import reliability, weigh
from rewardloop.preferences.segments import between_segments
from rewardloop.preferences.splits import HELD_OUT
from rewardloop.preferences.superiority import on_one_scale, rating_levels, standardized

NO_PERSON = "no person judged: these are labels of models or programs"


class Opinions(NamedTuple):
    """``votes``: ``consensus.votes``; ``values``: of the criterion, ratings on one scale; both with ``weight``."""

    votes: pl.DataFrame
    values: pl.DataFrame
    names: pl.DataFrame
    """who, labeler."""
    labelers: pl.DataFrame
    """``labelers.judge_labelers``."""
    words: str
    """How votes were weighted, or why they were not."""
    between: dict[str, dict[str, Estimate]]
    """``segments.between_segments``."""
    people: pl.DataFrame
    """``votes`` of people alone where there are such; else ``votes``."""
    trust: pl.DataFrame | None = None
    """a, b, trust of the pairs that no person judged; None where nobody but people judged, or none of them did."""
    levels: pl.DataFrame | None = None
    """``superiority.rating_levels``."""


def gather(
    pairs: pl.DataFrame,
    answers: pl.DataFrame,
    values: pl.DataFrame,
    *,
    everybody: pl.DataFrame,
    settings: ReliabilitySettings,
    seed: int,
    models: ModelLabelerSettings | None = None,
    known: Opinions | None = None,
) -> Opinions:
    """Cast and weigh the votes on ``pairs``.

    Args:
        pairs: a, b, bunch.
        answers: answer, response.
        values: ``Answers.values`` of the criterion that count, with ``weight`` by segment.
        everybody: the same of all segments, for the agreement between them.
        settings: ``preferences.reliability``.
        seed: of samples.
        models: ``preferences.model_labelers``.
        known: what was found on a sample of a corpus that is too large for one look: these are the weights then.
    """
    if known is not None:
        return _as_known(pairs, values, known)
    others = machines(values)
    if others.is_empty():
        alike = _gather(pairs, answers, values, everybody=everybody, settings=settings, seed=seed)
        nobody = len(values) > 0 and not values.select((pl.col("labeler_kind") == "human").any()).item()
        return alike._replace(words=f"{alike.words}; {NO_PERSON}") if nobody else alike
    people = _gather(
        pairs,
        answers,
        _without(values, others),
        everybody=_without(everybody, others),
        settings=settings,
        seed=seed,
    )
    cast = votes(pairs, values)
    theirs = consensus(pairs.select("a", "b"), people.votes, people.values)
    found = beside_people(
        cast, theirs, others, values=values, pairs=pairs, settings=models or ModelLabelerSettings(), seed=seed
    )
    return _together(people, cast.join(people.votes, on="who", how="anti"), theirs, found, values)


def judged_pairs(candidates: pl.DataFrame, opinions: Opinions, min_votes: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """``consensus`` of people alone, and of everybody; the same where nobody but people judged, or none of them did.

    A held-out pair that people judged stays as people judged it, also among everybody's: what the gate asks is what
    people prefer, and several models that err alike would outvote a person.

    Args:
        candidates: a, b, split.
        opinions: of ``gather`` on the same candidates.
        min_votes: comparisons that a pair needs.
    """
    enough = pl.col("comparisons") >= min_votes
    by_people = consensus(candidates, opinions.people, opinions.values).filter(enough)
    if opinions.trust is None:
        return by_people, by_people
    by_all = consensus(candidates, opinions.votes, opinions.values).filter(enough)
    held_out, nobodys = pl.col("split").is_in(HELD_OUT), opinions.trust.select("a", "b")
    parts = [
        by_people.filter(held_out),
        by_all.filter(held_out).join(nobodys, on=["a", "b"], how="semi"),
        by_all.filter(~held_out),
    ]
    return by_people, pl.concat(parts).sort("a", "b")


def _without(values: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """``values`` of people; what is said of segments is of people too."""
    return values.join(
        others.select(pl.col("who").cast(values.schema["who"])), on="who", how="anti", maintain_order="left"
    )


def _together(
    people: Opinions, cast: pl.DataFrame, theirs: pl.DataFrame, found: BesidePeople, values: pl.DataFrame
) -> Opinions:
    """People's opinions with the votes of models and programs added; ratings of different scales are never mixed.

    Where people's ratings say what is better though no person judged both answers, that stands.
    """
    by_ratings = theirs.join(people.votes, on=["a", "b"], how="anti").select("a", "b")
    added = weigh(cast, found.weights).join(by_ratings, on=["a", "b"], how="anti")
    return people._replace(
        votes=pl.concat([people.votes, added.select(people.votes.columns)]).sort("a", "b", "who"),
        names=values.select("who", "labeler").unique(),
        labelers=pl.concat([found.lines, people.labelers], how="diagonal_relaxed"),
        words=people.words + found.words,
        trust=found.trust,
    )


def _gather(
    pairs: pl.DataFrame,
    answers: pl.DataFrame,
    values: pl.DataFrame,
    *,
    everybody: pl.DataFrame,
    settings: ReliabilitySettings,
    seed: int,
) -> Opinions:
    cast = votes(pairs, values)
    trusted = reliability(cast, settings, seed)
    labelers = judge_labelers(
        weigh(cast.drop("weight"), trusted.labelers),
        trusted,
        pairs=pairs,
        answers=answers,
        values=values,
        settings=settings,
    )
    cast = weigh(cast, labelers)
    scaled = values if settings.method == "none" else on_one_scale(values, settings.prior_votes)
    of_all = cast if len(everybody) == len(values) else votes(pairs, everybody)
    return Opinions(
        votes=cast,
        values=weigh(scaled, labelers),
        names=values.select("who", "labeler").unique(),
        labelers=labelers,
        words=trusted.words,
        between=between_segments(of_all, pairs),
        people=cast,
        levels=None if settings.method == "none" else rating_levels(values, settings.prior_votes),
    )


def _as_known(pairs: pl.DataFrame, values: pl.DataFrame, known: Opinions) -> Opinions:
    """Votes and values with weights that were found elsewhere: labelers are told by pseudonym, ``who`` is a number."""
    names = values.filter(pl.col("who") > 0).select("who", "labeler").unique()
    weights = known.labelers.select("labeler", "segment", "weight").join(names, on="labeler")
    cast = weigh(votes(pairs, values), weights)
    scaled = values if known.levels is None else standardized(values, known.levels)
    everybody = values.select("who", "labeler").unique()
    return known._replace(votes=cast, values=weigh(scaled, weights), names=everybody, people=cast)
