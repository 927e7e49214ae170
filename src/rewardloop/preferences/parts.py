"""A corpus that is too large for one look becomes items and pairs part by part, and only parts that are new are built.

In: a snapshot. Out: ``items.parquet`` and ``pairs.parquet``, and what ``build`` tells besides. Which rows are a part
follows from the corpus (``parting``), what labelers are worth from a sample of it (``sampling``). Each part goes
through ``build`` with these weights, and what comes of it is kept under everything that decides it: its rows, what
their labels weigh, its labelers' weights, the settings and the code. So the tables are the same whatever was built
before.
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.evidence import DividedPair, Estimate, SplitLine
from rewardloop.kept import Kept, code_fingerprint, key_of
from rewardloop.preferences.build import build
from rewardloop.preferences.large_corpus import Given, LargeCorpus
from rewardloop.preferences.merging import Merged, write_part
from rewardloop.preferences.opinions import Opinions
from rewardloop.preferences.parting import Part
from rewardloop.preferences.segments import check_segments
from rewardloop.preferences.survey import Facts, together
from rewardloop.preferences.told import Told
from rewardloop.preferences.weighing import weigh_labelers
from rewardloop.snapshots import Snapshot

LARGE = 60_000
"""Rows from which on a corpus is built in parts."""
_PART = 40_000
"""Rows of a part, and of what is read at a time: some hundred megabytes while it is worked on."""
_KIND = "parts"


class LargePreferences(NamedTuple):
    """As ``Preferences``; items and pairs are on disk."""

    told: Told
    """Of the sample; labels of segments are counted over the corpus."""
    one_labeler: Estimate | None
    acceptability: str
    left_out: dict[str, int]
    groups_used: int
    groups_built: int
    divided: list[DividedPair]
    splits: list[SplitLine]


def build_if_large(
    snapshot: Snapshot,
    kept: Kept,
    folder: Path,
    target: Path,
    *,
    preferences: PreferenceSettings,
    splits: SplitSettings,
    evaluation: EvaluationSettings,
    golden: frozenset[str],
) -> LargePreferences | None:
    """Build items and pairs of a corpus that has to be built in parts; None where one look does.

    Where models or programs judged beside people everything is looked at at once: what they are trusted rests on all
    pairs that both judged.

    Args:
        snapshot: the corpus.
        kept: where results of earlier runs are, and those of this one go.
        folder: for files of this run.
        target: folder of ``items.parquet`` and ``pairs.parquet``.
        preferences, splits, evaluation, golden: as of ``build``.

    Raises:
        BadInputError: as ``build``.
    """
    if snapshot.count < LARGE:
        return None
    corpus = LargeCorpus(snapshot, kept, folder, Given(preferences, splits, evaluation, golden), _PART)
    facts = together(corpus.facts)
    if "human" in facts.kinds and len(facts.kinds) > 1:
        return None
    return _build(corpus, facts, target)


def _build(corpus: LargeCorpus, facts: Facts, target: Path) -> LargePreferences:
    """Build what is not kept, and merge everything."""
    given, wanted = corpus.given, corpus.given.preferences
    named = pl.DataFrame({"segment": sorted(facts.segments)}, schema={"segment": pl.String})
    check_segments(wanted.segments, named)
    judged = weigh_labelers(corpus, LARGE)
    merged = _merge(corpus, judged.opinions, wanted.model_copy(update={"acceptable_from": _source(facts, wanted)}))
    if wanted.acceptable_from != "auto" and not merged.verdicts:
        # Says what is missing.
        build(judged.sample, is_sample=True, **given._asdict())
    merged.write(target)
    corpus.tidy_up()
    words = (
        f"{judged.told.reliability}; found on a sample of {len(judged.sample):,} of {facts.rows:,} groups, all "
        "labelers in it"
    )
    segments = [line.model_copy(update={"labels": facts.segments[line.segment]}) for line in judged.told.segments]
    return LargePreferences(
        told=judged.told.model_copy(update={"reliability": words, "segments": segments}),
        one_labeler=judged.one_labeler,
        acceptability=merged.acceptability or judged.acceptability,
        left_out=dict(sorted(merged.left_out.items())),
        groups_used=merged.used,
        groups_built=merged.groups,
        divided=merged.most_divided(),
        splits=merged.lines(),
    )


def _merge(corpus: LargeCorpus, known: Opinions, settings: PreferenceSettings) -> Merged:
    """All parts, those that are kept and those that are built now."""
    given, parts = corpus.given, corpus.plan.parts
    keys = [_key(corpus, part, known, settings) for part in parts]
    folders = [corpus.folder / f"part-{number:06d}" for number in range(len(parts))]
    found = {
        number: files
        for number, key in enumerate(keys)
        if (files := corpus.kept.fetch(_KIND, key, folders[number])) is not None
    }
    missing = [number for number in range(len(parts)) if number not in found]
    corpus.dealer.deal(missing)
    for number in missing:
        rows = corpus.dealer.rows(number)
        built = build(rows, known=known, **given._replace(preferences=settings)._asdict())
        corpus.dealer.done_with(number)
        content = write_part(built, folders[number])
        corpus.keep(_KIND, keys[number], content, parts[number].batches)
        found[number] = {name: folders[number] / name for name in content}
    merged, weights = Merged(), corpus.snapshot.weights()
    for number, part in enumerate(parts):
        merged.add(part, found[number], max(weights[corpus.snapshot.batches[one].digest] for one in part.batches))
    return merged


def _key(corpus: LargeCorpus, part: Part, known: Opinions, settings: PreferenceSettings) -> str:
    """Names everything that decides what comes of a part."""
    labelers = {labeler for place in part.batches for labeler, _ in corpus.facts[place].labelers}
    mine = pl.col("labeler").is_in(list(labelers))
    weights = known.labelers.filter(mine).select("labeler", "segment", "weight").rows()
    levels = None if known.levels is None else known.levels.filter(mine | pl.col("labeler").is_null()).rows()
    return key_of(
        rows=part.rows_key,
        golden=part.golden,
        ages=corpus.ages([corpus.snapshot.batches[place] for place in part.batches]),
        weights=sorted(weights, key=str),
        levels=None if levels is None else sorted(levels, key=str),
        preferences=settings.model_dump(mode="json"),
        splits=corpus.given.splits.model_dump(mode="json"),
        evaluation=corpus.given.evaluation.model_dump(mode="json"),
        code=code_fingerprint("preferences"),
    )


def _source(facts: Facts, preferences: PreferenceSettings) -> str:
    """What decides which answers are acceptable: the same in every part."""
    if preferences.acceptable_from != "auto":
        return preferences.acceptable_from
    if facts.verdicts:
        return "labels"
    return "ratings" if preferences.acceptable_rating is not None and facts.ratings else "comparisons"
