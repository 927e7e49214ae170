"""Rows of a large corpus, dealt to the parts that they are built in, some tens of thousands at a time.

In: a snapshot and a plan of its parts. Out: Arrow files per part in a folder of this machine. Only rows of parts that
are asked for are written, and no batch is read twice for the same part.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from rewardloop.preferences.parting import Plan
from rewardloop.snapshots import Snapshot


class Dealer:
    """Deals rows to parts of ``plan``, named by their place in it."""

    def __init__(self, snapshot: Snapshot, plan: Plan, folder: Path, slice_rows: int) -> None:
        self._snapshot, self._plan, self._folder, self._slice = snapshot, plan, folder, slice_rows
        self._dealt: set[tuple[int, int]] = set()

    def deal(self, parts: Iterable[int]) -> None:
        """Deal all rows of some parts."""
        wanted: dict[int, set[int]] = {}
        for part in parts:
            for place in self._plan.parts[part].batches:
                wanted.setdefault(place, set()).add(part)
        for place in sorted(wanted):
            self.deal_batch(place, wanted[place])

    def deal_batch(
        self, place: int, parts: Iterable[int] | None = None, look: Callable[[pl.DataFrame], None] | None = None
    ) -> None:
        """Deal the rows of one batch.

        Args:
            place: of the batch.
            parts: which ones get their rows; None: all.
            look: is shown all rows of the batch, some at a time.
        """
        batch = self._snapshot.batches[place]
        some = range(len(self._plan.parts)) if parts is None else parts
        wanted = {part for part in some if (place, part) not in self._dealt}
        if not wanted and look is None:
            return
        self._snapshot.check(batch)
        for start, rows in self._snapshot.slices(batch, self._slice):
            if look is not None:
                look(rows)
            named = rows.with_columns(pl.lit(batch.digest).alias("batch"))
            for goes in (self._plan.own[place], self._plan.shared[place]):
                self._write(named.with_columns(goes.slice(start, len(rows)).alias("part")), wanted, place, start)
        self._dealt |= {(place, part) for part in wanted}

    def rows(self, part: int) -> pl.DataFrame:
        """The rows of a part that was dealt: FEEDBACK columns, ``batch``, and ``weight`` where labels lose weight."""
        about = self._plan.parts[part]
        folder = self._folder / f"rows-{part:06d}"
        rows = pl.concat([pl.read_ipc(path) for path in sorted(folder.glob("*.arrow"))])
        return self.weighted(rows, about.batches)

    def weighted(self, rows: pl.DataFrame, places: Iterable[int]) -> pl.DataFrame:
        """Rows of some batches with ``weight``, beside the newest of these; as they are without decay."""
        if self._snapshot.half_life_days is None:
            return rows
        weights = self._snapshot.weights([self._snapshot.batches[place] for place in places])
        return rows.with_columns(pl.col("batch").replace_strict(weights, return_dtype=pl.Float64).alias("weight"))

    def done_with(self, part: int) -> None:
        """Remove the files of a part."""
        for path in (self._folder / f"rows-{part:06d}").glob("*.arrow"):
            path.unlink()

    def _write(self, rows: pl.DataFrame, wanted: set[int], place: int, start: int) -> None:
        for (part,), mine in rows.drop_nulls("part").partition_by("part", as_dict=True).items():
            number = int(str(part))
            if number in wanted:
                folder = self._folder / f"rows-{number:06d}"
                folder.mkdir(parents=True, exist_ok=True)
                mine.drop("part").write_ipc(folder / f"{place:06d}-{start:012d}.arrow")
