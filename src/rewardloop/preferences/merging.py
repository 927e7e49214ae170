"""Parts of a corpus become one ``items.parquet`` and one ``pairs.parquet``, numbered through.

In: what ``build`` made of each part, as files. Out: the two tables, ordered by split, then by part, and what adds up
over the parts. Documents that a part hides are not taken from it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from rewardloop.evidence import DividedPair, SplitLine
from rewardloop.preferences.build import Preferences
from rewardloop.preferences.parting import Part
from rewardloop.preferences.survey import as_number, hash_number
from rewardloop.records import SPLITS

_ROW_GROUP = 1 << 14
"""Rows of a part's file that are decoded at a time: a split is read without the others."""
_OUT_GROUP = 1 << 17
_DIVIDED = 20
_COUNTED = ("groups", "items", "documents", "pairs", "ties", "acceptable", "unacceptable")


def write_part(built: Preferences, folder: Path) -> dict[str, Path | bytes]:
    """The files of one built part, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path | bytes] = {}
    for name, table in (("items", built.items), ("pairs", built.pairs), ("unused", built.unused)):
        place = folder / f"{name}.parquet"
        table.write_parquet(place, compression_level=1, row_group_size=_ROW_GROUP)
        found[place.name] = place
    about = {
        "acceptability": built.acceptability if built.items["acceptable"].count() else "",
        "divided": [pair.model_dump(mode="json") for pair in built.divided],
        "documents": built.divided_documents,
        "splits": _counts(built.items, built.pairs),
        "groups": built.items.filter(pl.col("group") >= 0)["group"].n_unique(),
        "unused": built.left_out,
    }
    (folder / "about.json").write_text(json.dumps(about))
    found["about.json"] = folder / "about.json"
    return found


class Merged:
    """What the parts gave so far; ``add`` them in the order of the plan."""

    def __init__(self) -> None:
        self._tables: list[dict[str, Path]] = []
        self._groups: list[int] = []
        self._splits: list[dict[str, dict[str, int]]] = []
        self._divided: list[DividedPair] = []
        self._factors: list[float] = []
        self.left_out: Counter[str] = Counter()
        self.used = 0
        self.acceptability = ""

    @property
    def groups(self) -> int:
        """Groups of all parts."""
        return sum(self._groups)

    @property
    def verdicts(self) -> int:
        """Answers that are known to be acceptable or not."""
        return sum(line.acceptable + line.unacceptable for line in self.lines())

    def add(self, part: Part, files: Mapping[str, Path], factor: float) -> None:
        """Add one part.

        Args:
            part: its place in the corpus.
            files: as ``write_part`` made them, in a folder of their own.
            factor: what labels of the part's newest batch weigh in the corpus.
        """
        about: dict[str, Any] = json.loads(files["about.json"].read_bytes())
        tables = {name: files[f"{name}.parquet"] for name in ("items", "pairs")}
        groups, splits, unused = about["groups"], about["splits"], about["unused"]
        hidden = set(part.hidden)
        if hidden:
            tables, groups, splits = _without(part.hidden, tables)
            left = pl.read_parquet(files["unused.parquet"]).filter(~as_number("document").is_in(part.hidden.implode()))
            unused = dict(left.group_by("why").agg(pl.col("rows").sum()).iter_rows())
        self._tables.append(tables)
        self._groups.append(groups)
        self._splits.append(splits)
        self._factors.append(factor)
        self.left_out.update(unused)
        self.used += part.rows - part.hidden_rows - sum(unused.values())
        self.acceptability = self.acceptability or about["acceptability"]
        for pair, document in zip(about["divided"], about["documents"], strict=True):
            if hash_number(document) not in hidden:
                self._divided.append(DividedPair.model_validate(pair))

    def lines(self) -> list[SplitLine]:
        """Sizes of the splits."""
        return [
            SplitLine(split=split, **{name: sum(one[split][name] for one in self._splits) for name in _COUNTED})
            for split in SPLITS
        ]

    def most_divided(self) -> list[DividedPair]:
        """Of the pairs that divide people most in each part, those that do in all."""

        def division(pair: DividedPair) -> float:
            return pair.p * (1 - pair.p) * (pair.votes_a + pair.votes_b + pair.ties)

        return sorted(self._divided, key=division, reverse=True)[:_DIVIDED]

    def write(self, target: Path) -> None:
        """Write ``items.parquet`` and ``pairs.parquet``."""
        for name in ("items", "pairs"):
            rows = pl.concat(list(self._shifted(name)))
            rows.sink_parquet(target / f"{name}.parquet", compression_level=1, row_group_size=_OUT_GROUP)

    def _shifted(self, name: str) -> Iterator[pl.LazyFrame]:
        """The rows of each split of each part, with numbers that go on from those before."""
        first = 0
        starts = [dict.fromkeys(("items", "pairs"), 0) for _ in self._tables]
        for split in SPLITS:
            groups = 0
            for place, tables in enumerate(self._tables):
                counts, start = self._splits[place][split], starts[place]
                numbered = pl.col("group").cast(pl.Int32)
                columns = ["item"] if name == "items" else ["a", "b"]
                rows = pl.scan_parquet(tables[name]).slice(start[name], counts[name])
                shifted = [pl.col(column) + (first - start["items"]) for column in columns]
                if name == "pairs" and self._factors[place] != 1:
                    shifted.append(pl.col("weight") * self._factors[place])
                yield rows.with_columns(
                    *shifted, pl.when(numbered >= 0).then(numbered + groups).otherwise(numbered).alias("group")
                )
                first += counts["items"]
                groups += self._groups[place]
                start["items"] += counts["items"]
                start["pairs"] += counts["pairs"]


def _without(hidden: pl.Series, tables: Mapping[str, Path]) -> tuple[dict[str, Path], int, dict[str, dict[str, int]]]:
    """The tables of a part without hidden documents, its groups and its sizes."""
    items, pairs = pl.read_parquet(tables["items"]), pl.read_parquet(tables["pairs"])
    items = items.filter(~as_number("document").is_in(hidden.implode()))
    number = pl.col("group").cast(pl.Int32)
    # Documents hold whole groups, so that pairs go with their answers; what is left is numbered without gaps.
    items = items.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("new_item"),
        pl.when(number >= 0).then(pl.when(number >= 0).then(number).rank("dense").cast(pl.Int32) - 1).otherwise(number)
        .alias("new_group"),
    )  # fmt: skip
    sides = items.select("item", "new_item")
    pairs = (
        pairs.join(items.select("item", "new_item", "new_group"), left_on="a", right_on="item", maintain_order="left")
        .join(sides, left_on="b", right_on="item", suffix="_b", maintain_order="left")
        .with_columns(
            pl.col("new_item").alias("a"),
            pl.col("new_item_b").alias("b"),
            pl.when(pl.col("group") >= 0).then("new_group").otherwise("group").alias("group"),
        )
        .drop("new_item", "new_item_b", "new_group")
    )
    items = items.with_columns(pl.col("new_item").alias("item"), pl.col("new_group").alias("group")).drop(
        "new_item", "new_group"
    )
    found = {name: place.with_name(f"shown-{name}.parquet") for name, place in tables.items()}
    items.write_parquet(found["items"], compression_level=1, row_group_size=_ROW_GROUP)
    pairs.write_parquet(found["pairs"], compression_level=1, row_group_size=_ROW_GROUP)
    return found, items.filter(pl.col("group") >= 0)["group"].n_unique(), _counts(items, pairs)


def _counts(items: pl.DataFrame, pairs: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Split -> what ``SplitLine`` counts."""
    found = {}
    for split in SPLITS:
        mine, theirs = items.filter(split=split), pairs.filter(split=split)
        acceptable = mine["acceptable"].drop_nulls()
        found[split] = {
            "groups": mine.filter(pl.col("group") >= 0)["group"].n_unique(),
            "items": len(mine),
            "documents": mine["document"].n_unique(),
            "pairs": len(theirs),
            "ties": int((theirs["p"] == 0.5).sum()),
            "acceptable": int(acceptable.sum()),
            "unacceptable": int((~acceptable).sum()),
        }
    return found
