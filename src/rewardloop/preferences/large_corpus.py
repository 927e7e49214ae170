"""A large corpus under work: what is known of its batches, its parts, and the rows of those that are asked for.

In: a snapshot and the store's kept results. Out: facts of every batch, looked at once in its life, the plan of parts,
and a dealer of rows. A batch that nothing is known of is dealt to its parts in the same pass in which it is looked at.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.kept import Kept, room
from rewardloop.preferences.dealing import Dealer
from rewardloop.preferences.parting import plan_parts
from rewardloop.preferences.survey import (
    COLUMNS,
    Facts,
    hash_number,
    keep_survey,
    look,
    read_survey,
    together,
    units_of,
)
from rewardloop.snapshots import Snapshot, SnapshotBatch


class Given(NamedTuple):
    """What ``build`` is given besides feedback."""

    preferences: PreferenceSettings
    splits: SplitSettings
    evaluation: EvaluationSettings
    golden: frozenset[str]


class LargeCorpus:
    """``facts``: of each batch; ``plan``: the parts; ``dealer``: of their rows."""

    def __init__(self, snapshot: Snapshot, kept: Kept, folder: Path, given: Given, part: int) -> None:
        self.snapshot, self.kept, self.folder, self.given = snapshot, kept, folder, given
        self._part = part
        self._asked: dict[int, pl.DataFrame] = {}
        self._made = False
        surveys = [
            read_survey(kept, batch, self.criterion, self._survey_folder(place))
            for place, batch in enumerate(snapshot.batches)
        ]
        units = [
            units_of(snapshot, batch) if known is None else known[1]
            for batch, known in zip(snapshot.batches, surveys, strict=True)
        ]
        self.plan = plan_parts(snapshot.batches, units, frozenset(map(hash_number, given.golden)), part)
        self.dealer = Dealer(snapshot, self.plan, folder, part)
        self.facts = [
            self._survey(place, units[place]) if known is None else known[0] for place, known in enumerate(surveys)
        ]

    @property
    def criterion(self) -> str:
        """The trained one."""
        return self.given.preferences.criterion

    def who_judged(self, places: Iterable[int]) -> pl.DataFrame:
        """content (a number), labeler, segment and pairs of the labels of some batches."""
        chosen = list(places)
        for place in chosen:
            if place not in self._asked:
                slices = self.snapshot.slices(self.snapshot.batches[place], self._part, COLUMNS)
                self._asked[place] = pl.concat([look(rows, self.criterion)[1] for _, rows in slices])
        return pl.concat([self._asked[place] for place in chosen])

    def ages(self, batches: Sequence[SnapshotBatch]) -> object:
        """What labels of some batches weigh beside the newest of these; None without decay."""
        return None if self.snapshot.half_life_days is None else sorted(self.snapshot.weights(batches).items())

    def keep(self, kind: str, key: str, content: dict[str, Path | bytes], batches: Iterable[int]) -> None:
        """Keep a result that was made of some batches."""
        self.kept.keep(kind, key, content, [self.snapshot.batches[place].digest for place in batches])
        self._made = True

    def tidy_up(self) -> None:
        """Leave no more behind than is good for, where something was added."""
        if self._made:
            self.kept.trim(room(self.snapshot.size))

    def _survey(self, place: int, units: pl.Series) -> Facts:
        """Look at a batch that nothing is kept of, and deal its rows at the same time."""
        facts: list[Facts] = []
        asked: list[pl.DataFrame] = []

        def see(rows: pl.DataFrame) -> None:
            found, who = look(rows.select(COLUMNS), self.criterion)
            facts.append(found)
            asked.append(who)

        self.dealer.deal_batch(place, look=see)
        self._asked[place] = pl.concat(asked)
        of_all = together(facts)
        keep_survey(self.kept, self.snapshot.batches[place], self.criterion, of_all, units, self._survey_folder(place))
        self._made = True
        return of_all

    def _survey_folder(self, place: int) -> Path:
        return self.folder / f"survey-{place:06d}"
