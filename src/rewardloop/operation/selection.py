"""Which served answers people should judge next: those nearest the threshold, and those that versions disagree on.

In: logged decisions with texts, what is labeled already, perhaps the previous champion's opinion. Out: the answers to
judge, and why each of the others was left out. What is picked here was picked for being hard, so its labels are only
trained on: answers whose documents belong to a held-out split are not asked about, their labels could not be used.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rewardloop.bootstrap import Floats
from rewardloop.config import Settings, SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.late_labels import TEXT, text_hashes
from rewardloop.preferences.splits import place_rows
from rewardloop.records import prompt_key

AGAIN, LABELED, ASKED = "decided more than once", "labeled already", "exported before"
GOLDEN, HELD_OUT = "in the golden set", "in a held-out split, where labels of answers picked on purpose cannot be used"
UNSCORED, ALONE = "without a score or a threshold", "the only logged answer to its prompt: nothing to compare it with"


class Opinion(NamedTuple):
    """What another version makes of the same answers, one per row."""

    decisions: Sequence[str]
    distances: Floats
    """From that version's threshold, on the public scale; NaN where it cannot score."""


Ask = Callable[[pl.DataFrame], Opinion]
"""Rows of ``DECISIONS`` with texts -> another version's opinion of them."""


class Selection(NamedTuple):
    """``rows``: ``DECISIONS`` with ``distance`` from the threshold, in the order of the tasks."""

    rows: pl.DataFrame
    divided: int
    """Of them, those that were picked because versions disagree."""
    left_out: dict[str, int]
    """Why -> logged answers."""


def select(
    decisions: pl.DataFrame,
    store: FeedbackStore,
    settings: Settings,
    *,
    count: int,
    ask: Ask | None,
    asked: frozenset[tuple[str, str]] = frozenset(),
) -> Selection:
    """Pick ``count`` answers at most: half where ``ask`` decides otherwise, the others nearest the threshold.

    An answer to a prompt brings the answer to the same prompt that is next nearest: a prompted answer alone cannot be
    compared, so its label could not be trained on. Where versions disagree less often, more are picked by distance.

    Args:
        decisions: ``DECISIONS`` of one version.
        store: what is labeled already, and the splits.
        settings: ``splits`` where the store has none yet, ``drift.second_opinions``.
        count: most answers.
        ask: the previous champion; None: all are picked by distance.
        asked: (prompt_hash, response_hash) of answers that people are judging already.

    Raises:
        BadInputError: no texts were logged, or nothing can be asked about.
    """
    logged = decisions.drop_nulls("response")
    if logged.is_empty():
        found = f"{len(decisions):,} decisions are logged, all without texts" if len(decisions) else "none is logged"
        raise BadInputError(
            f"export-tasks: {found}; to let people judge answers set serving.log.texts: true and serving.log.sample "
            "above 0, and serve"
        )
    candidates, left_out = _candidates(logged, store, settings, asked)
    if candidates.is_empty():
        why = "; ".join(f"{answers:,} {reason}" for reason, answers in left_out.items())
        raise BadInputError(f"export-tasks: of {len(logged):,} logged answers none is left to judge: {why}")
    divided = _divided(candidates.head(settings.drift.second_opinions), ask) if ask else []
    chosen: dict[int, None] = {}
    _take(chosen, divided, candidates, count // 2)
    disagreed = len(chosen)
    _take(chosen, range(len(candidates)), candidates, count)
    return Selection(candidates[list(chosen)], disagreed, left_out)


def _candidates(
    logged: pl.DataFrame, store: FeedbackStore, settings: Settings, asked: frozenset[tuple[str, str]]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Answers that may be asked about, nearest the threshold first, and why the others may not."""
    once = logged.sort("at").unique(TEXT, keep="last", maintain_order=True)
    labeled = {keys for batch in store.batches() for keys in text_hashes(store.read_batch(batch.digest))}
    known, given = (
        pl.Series([keys in texts for keys in once.select(TEXT).iter_rows()], dtype=pl.Boolean)
        for texts in (labeled, asked)
    )
    placed = _placed(once, store.splits() or settings.splits, frozenset(store.golden_documents()))
    judged = once.with_columns(
        (pl.col("score") - pl.col("threshold")).abs().alias("distance"),
        pl.when(known)
        .then(pl.lit(LABELED))
        .when(given)
        .then(pl.lit(ASKED))
        .when(placed == "golden")
        .then(pl.lit(GOLDEN))
        .when(placed != "train")
        .then(pl.lit(HELD_OUT))
        .when(pl.col("score").is_null() | pl.col("threshold").is_null())
        .then(pl.lit(UNSCORED))
        .alias("why"),
    )
    free, prompted = pl.col("why").is_null(), pl.col("prompt").list.len() > 0
    alone = prompted & free & (free.sum().over("prompt_hash") < 2)
    judged = judged.with_columns(pl.when(alone).then(pl.lit(ALONE)).otherwise("why").alias("why"))
    left_out = {AGAIN: len(logged) - len(once)} if len(once) < len(logged) else {}
    left_out |= dict(sorted(judged.drop_nulls("why").group_by("why").len().iter_rows()))
    return judged.filter(pl.col("why").is_null()).drop("why").sort("distance", *TEXT), left_out


def _placed(once: pl.DataFrame, splits: SplitSettings, golden: frozenset[str]) -> pl.Series:
    """The split of each answer, were it ingested as it is: the rule of ``preferences.splits``."""
    no_prompt = prompt_key([])
    rows = once.select(
        # As records.document_key: the prompt, else the text.
        pl.when(pl.col("prompt_hash") == no_prompt).then("response_hash").otherwise("prompt_hash").alias("document"),
        pl.lit("active").alias("sampling"),
        "prompt",
        pl.concat_list(pl.struct(pl.col("response").alias("content"))).alias("responses"),
    )
    return place_rows(rows, splits, golden)["split"]


def _divided(candidates: pl.DataFrame, ask: Ask) -> list[int]:
    """Places of the answers that the other version decides otherwise, the most divided first.

    Two versions are the more divided the surer the less sure of them is: the smaller of both distances counts.
    """
    opinion = ask(candidates)
    otherwise = candidates["decision"].to_numpy() != np.array(opinion.decisions, dtype=object)
    strength = np.fmin(candidates["distance"].to_numpy(), opinion.distances)
    places = np.flatnonzero(otherwise)
    return [int(place) for place in places[np.argsort(-strength[places], kind="stable")]]


def _take(chosen: dict[int, None], places: Sequence[int], candidates: pl.DataFrame, limit: int) -> None:
    """Add places with their partners, as long as both fit; ``chosen`` keeps the order."""
    prompts: dict[str, list[int]] = {}
    for place, (prompt, key) in enumerate(candidates.select("prompt", "prompt_hash").iter_rows()):
        if prompt:
            prompts.setdefault(key, []).append(place)
    keys: list[Any] = candidates["prompt_hash"].to_list()
    for place in places:
        if place in chosen:
            continue
        others = prompts.get(keys[place], [])
        # Candidates are sorted by distance: the first of the others is the next nearest.
        partner = [] if any(one in chosen for one in others) else [one for one in others if one != place][:1]
        if len(chosen) + 1 + len(partner) <= limit:
            chosen.update(dict.fromkeys([place, *partner]))
