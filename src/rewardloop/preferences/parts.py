"""A corpus that is too large for one look becomes items and pairs part by part.

In: feedback as a Parquet file. Out: ``items.parquet`` and ``pairs.parquet``, and what ``build`` tells besides. What
labelers are worth, how far they agree and how well one of them predicts the others is found on a sample that has groups
of every labeler; then each part (all groups of some documents; texts without prompt are one part) goes through
``build`` with these weights. Which part a document is in, and who is in the sample, follows from hashes, not from the
rows' order.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.evidence import DividedPair, Estimate, SplitLine
from rewardloop.preferences.build import Preferences, build
from rewardloop.preferences.opinions import Opinions
from rewardloop.preferences.segments import check_segments
from rewardloop.records import SPLITS

LARGE = 60_000
"""Rows from which on a corpus is built in parts."""
_PART = 40_000
"""Rows of a part, and of what is read at a time: some hundred megabytes while it is worked on."""
_SAMPLE = 60_000
"""Most groups of the sample."""
_DIVIDED = 20
_TEXTS = -1


@dataclass
class Survey:
    """What one pass over the feedback tells."""

    rows: int = 0
    verdicts: bool = False
    """Whether there are explicit verdicts on answers sampled at random."""
    ratings: bool = False
    """Whether there are ratings on the criterion."""
    kinds: set[str] = field(default_factory=set)
    """Of the criterion's labelers."""
    criteria: set[str] = field(default_factory=set)
    segments: Counter[str] = field(default_factory=Counter)
    """Segment -> labels on the criterion."""
    asked: list[pl.DataFrame] = field(default_factory=list)
    """content (its first bits), labeler, pairs: who judged which group."""


class LargePreferences(NamedTuple):
    """As ``Preferences``; items and pairs are on disk."""

    sample: pl.DataFrame
    """The ``FEEDBACK`` rows of the sample."""
    survey: Survey
    opinions: Opinions
    one_labeler: Estimate | None
    acceptability: str
    left_out: dict[str, int]
    groups_used: int
    groups_built: int
    divided: list[DividedPair]
    splits: list[SplitLine]


def survey_if_large(feedback: pl.LazyFrame, criterion: str, folder: Path) -> Survey | None:
    """``survey_parts`` of a corpus that has to be built in parts; None where one look does.

    Where models or programs judged beside people everything is looked at at once: what they are trusted rests on all
    pairs that both judged.
    """
    if feedback.select(pl.len()).collect().item() < LARGE:
        return None
    survey = survey_parts(feedback, criterion, folder)
    return None if "human" in survey.kinds and len(survey.kinds) > 1 else survey


def survey_parts(feedback: pl.LazyFrame, criterion: str, folder: Path) -> Survey:
    """Deal the rows to parts (folders of Arrow files), and look at them once."""
    found = Survey(rows=feedback.select(pl.len()).collect().item())
    parts = -(-found.rows // _PART)
    for start in range(0, found.rows, _PART):
        rows = feedback.slice(start, _PART).collect()
        _look(rows, criterion, found)
        prefix = pl.col("document").str.head(4).str.to_integer(base=16, dtype=pl.Int64)
        dealt = rows.with_columns(
            pl.when(pl.col("prompt").list.len() == 0).then(_TEXTS).otherwise(prefix * parts // 65_536).alias("part")
        )
        for (part,), mine in dealt.partition_by("part", as_dict=True).items():
            place = folder / f"part-{int(str(part)) - _TEXTS:06d}"
            place.mkdir(exist_ok=True)
            mine.drop("part").write_ipc(place / f"{start:012d}.arrow")
    return found


def _look(rows: pl.DataFrame, criterion: str, found: Survey) -> None:
    labels = (
        rows.select("content", "sampling", "segment", "labels", pl.col("responses").list.len().alias("size"))
        .explode("labels")
        .with_columns(pl.col("labels").struct.field(name) for name in ("labeler", "labeler_kind", "criterion", "kind"))
        .drop("labels")
    )
    on = labels.filter(criterion=criterion)
    found.verdicts |= not labels.filter(kind="acceptable", sampling="random").is_empty()
    found.ratings |= not on.filter(kind="rating").is_empty()
    found.kinds |= set(on["labeler_kind"].drop_nulls().unique())
    found.criteria |= set(labels["criterion"].drop_nulls().unique())
    found.segments.update(dict(on.filter(pl.col("segment").is_not_null()).group_by("segment").len().iter_rows()))
    found.asked.append(
        on.select(
            pl.col("content").str.head(15).str.to_integer(base=16, dtype=pl.Int64).alias("content"),
            pl.col("labeler").cast(pl.Categorical),
            (pl.col("size") * (pl.col("size") - 1) / 2).cast(pl.Float32).alias("pairs"),
        ).unique()
    )


def build_in_parts(
    survey: Survey,
    folder: Path,
    target: Path,
    *,
    preferences: PreferenceSettings,
    splits: SplitSettings,
    evaluation: EvaluationSettings,
    golden: frozenset[str],
) -> LargePreferences:
    """Build items and pairs of all parts.

    Args:
        survey: of ``survey_parts`` into ``folder``.
        folder: the parts; files are added.
        target: folder of ``items.parquet`` and ``pairs.parquet``.
        preferences, splits, evaluation, golden: as of ``build``.

    Raises:
        BadInputError: as ``build``.
    """
    sample = _sample(survey, folder, preferences)
    check_segments(
        preferences.segments, pl.DataFrame({"segment": sorted(survey.segments)}, schema={"segment": pl.String})
    )
    whole = {"splits": splits, "evaluation": evaluation, "golden": golden}
    anything = preferences.model_copy(update={"acceptable_from": "auto"})
    looked = build(sample, preferences=anything, **whole)  # type: ignore[arg-type]
    known = looked.opinions._replace(
        votes=pl.DataFrame(), values=pl.DataFrame(), people=pl.DataFrame(), names=pl.DataFrame(),
        words=f"{looked.opinions.words}; found on a sample of {len(sample):,} of {survey.rows:,} groups, all labelers "
        "in it",
    )  # fmt: skip
    settings = preferences.model_copy(update={"acceptable_from": _source(survey, preferences)})
    merged = _Merged(folder)
    for part in sorted(folder.glob("part-*")):
        built = build(_rows(part), preferences=settings, known=known, **whole)  # type: ignore[arg-type]
        merged.add(built)
    if preferences.acceptable_from != "auto" and not merged.verdicts:
        build(sample, preferences=preferences, **whole)  # type: ignore[arg-type]  # says what is missing
    merged.write(target)
    return LargePreferences(
        sample=sample,
        survey=survey,
        opinions=known,
        one_labeler=looked.one_labeler,
        acceptability=merged.acceptability or looked.acceptability,
        left_out=dict(sorted(merged.left_out.items())),
        groups_used=merged.used,
        groups_built=merged.groups,
        divided=merged.most_divided(),
        splits=merged.lines(),
    )


def _source(survey: Survey, preferences: PreferenceSettings) -> str:
    """What decides which answers are acceptable: the same in every part."""
    if preferences.acceptable_from != "auto":
        return preferences.acceptable_from
    if survey.verdicts:
        return "labels"
    return "ratings" if preferences.acceptable_rating is not None and survey.ratings else "comparisons"


def _rows(part: Path) -> pl.DataFrame:
    return pl.concat([pl.read_ipc(path) for path in sorted(part.glob("*.arrow"))])


def _sample(survey: Survey, folder: Path, preferences: PreferenceSettings) -> pl.DataFrame:
    """Rows of the groups with the lowest hashes, for each labeler as many as ``max_votes_per_labeler`` pairs need."""
    asked = pl.concat(survey.asked)
    survey.asked.clear()
    order = asked.sort("content").with_columns(
        pl.col("pairs").cum_sum().over("labeler").alias("before") - pl.col("pairs")
    )
    wanted = order.filter(pl.col("before") < preferences.reliability.max_votes_per_labeler)["content"].unique().sort()
    wanted = wanted.head(_SAMPLE)
    key = pl.col("content").str.head(15).str.to_integer(base=16, dtype=pl.Int64)
    return pl.concat([_rows(part).filter(key.is_in(wanted.implode())) for part in sorted(folder.glob("part-*"))])


class _Merged:
    """What the parts gave, numbered through: first by split, then by part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: list[dict[str, int]] = []
        self._groups: list[int] = []
        self._lines: Counter[tuple[str, str]] = Counter()
        self.left_out: Counter[str] = Counter()
        self.used = 0
        self.acceptability = ""
        self._divided: list[DividedPair] = []

    @property
    def groups(self) -> int:
        return sum(self._groups)

    @property
    def verdicts(self) -> int:
        return sum(self._lines[split, name] for split in SPLITS for name in ("acceptable", "unacceptable"))

    def add(self, built: Preferences) -> None:
        part = len(self._counts)
        counts = dict.fromkeys(SPLITS, 0)
        start = 0
        for split in SPLITS:
            items, pairs = built.items.filter(split=split), built.pairs.filter(split=split)
            counts[split] = len(items)
            items.with_columns(pl.col("item") - start).write_ipc(self._place("items", split, part))
            pairs.with_columns(pl.col("a") - start, pl.col("b") - start).write_ipc(self._place("pairs", split, part))
            start += len(items)
            self._count(split, items, pairs)
        self._counts.append(counts)
        self._groups.append(built.items.filter(pl.col("group") >= 0)["group"].n_unique())
        self.left_out.update(built.left_out)
        self.used += built.groups_used
        if not self.acceptability and built.items["acceptable"].count():
            self.acceptability = built.acceptability
        self._divided += built.divided

    def _count(self, split: str, items: pl.DataFrame, pairs: pl.DataFrame) -> None:
        acceptable = items["acceptable"].drop_nulls()
        self._lines.update(
            {
                (split, "groups"): items.filter(pl.col("group") >= 0)["group"].n_unique(),
                (split, "items"): len(items),
                (split, "documents"): items["document"].n_unique(),
                (split, "pairs"): len(pairs),
                (split, "ties"): int((pairs["p"] == 0.5).sum()),
                (split, "acceptable"): int(acceptable.sum()),
                (split, "unacceptable"): int((~acceptable).sum()),
            }
        )

    def lines(self) -> list[SplitLine]:
        names = ("groups", "items", "documents", "pairs", "ties", "acceptable", "unacceptable")
        return [SplitLine(split=split, **{name: self._lines[split, name] for name in names}) for split in SPLITS]

    def most_divided(self) -> list[DividedPair]:
        def division(pair: DividedPair) -> float:
            return pair.p * (1 - pair.p) * (pair.votes_a + pair.votes_b + pair.ties)

        return sorted(self._divided, key=division, reverse=True)[:_DIVIDED]

    def write(self, target: Path) -> None:
        pl.concat(list(self._shifted("items", ["item"]))).sink_parquet(target / "items.parquet")
        pl.concat(list(self._shifted("pairs", ["a", "b"]))).sink_parquet(target / "pairs.parquet")

    def _shifted(self, table: str, columns: list[str]) -> Iterator[pl.LazyFrame]:
        first = 0
        for split in SPLITS:
            groups = 0
            for part, counts in enumerate(self._counts):
                numbered = pl.col("group").cast(pl.Int32)
                yield pl.scan_ipc(self._place(table, split, part)).with_columns(
                    *(pl.col(name) + first for name in columns),
                    pl.when(numbered >= 0).then(numbered + groups).otherwise(numbered).alias("group"),
                )
                first += counts[split]
                groups += self._groups[part]

    def _place(self, table: str, split: str, part: int) -> Path:
        return self._folder / f"{table}-{split}-{part:06d}.arrow"
