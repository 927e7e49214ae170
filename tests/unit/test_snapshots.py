"""Snapshots: the rows that count, their weights, and files that are never rewritten."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from rewardloop import transfer
from rewardloop.errors import BadInputError
from rewardloop.snapshots import Snapshot, hand_on, read_snapshot, write_rows, write_snapshot
from rewardloop.tables import FEEDBACK
from tests.unit.preferences.feedback import frame, rated_texts

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def made(tmp_path: Path) -> Snapshot:
    rows = frame(rated_texts(10)).with_columns(pl.Series("batch", ["one"] * 6 + ["two"] * 4))
    return write_rows(tmp_path / "made", rows, NOW)


def places(snapshot: Snapshot) -> list[str]:
    return snapshot.scan().collect()["group_id"].to_list()


def test_rows_that_do_not_count_are_nowhere(made: Snapshot, tmp_path: Path) -> None:
    first = hand_on(made, tmp_path / "first", {"one": [0, 5]})
    second = hand_on(read_snapshot(tmp_path / "first"), tmp_path / "second", {"one": [0, 3], "two": []})
    assert places(made) == [str(number) for number in range(10)]
    assert places(first) == [str(number) for number in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert places(second) == [str(number) for number in (2, 3, 6, 7, 8, 9)]
    assert second.count == 6
    one, two = second.batches
    assert (one.count, one.without) == (2, [0, 1, 4, 5])
    assert two.content == "two" != one.content
    assert one.content != first.batches[0].content
    for size in (1, 2, 3, 100):
        found = list(second.slices(one, size, ["group_id"]))
        assert [row for _, part in found for row in part["group_id"]] == ["2", "3"]
        assert next(start for start, part in found if len(part)) == 0


def test_a_batch_of_which_nothing_is_left_is_no_part(made: Snapshot, tmp_path: Path) -> None:
    left = hand_on(made, tmp_path / "left", {"one": list(range(6))})
    assert [batch.digest for batch in left.batches] == ["two"]
    assert left.scan().collect_schema() == pl.Schema({**FEEDBACK, "batch": pl.String()})


def test_files_are_the_same_ones_and_the_folder_stands_alone(made: Snapshot, tmp_path: Path) -> None:
    other = hand_on(made, tmp_path / "other", {"one": [0]})
    for here, there in zip(made.batches, other.batches, strict=True):
        assert (made.folder / here.file).samefile(other.folder / there.file)
    shutil.rmtree(made.folder)
    shutil.move(tmp_path / "other", tmp_path / "moved")
    assert len(places(read_snapshot(tmp_path / "moved"))) == 9


def test_where_links_are_not_allowed_there_are_copies(
    made: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(transfer.os, "link", refuse)
    other = hand_on(made, tmp_path / "other", {})
    assert places(other) == places(made)
    assert not (made.folder / made.batches[0].file).samefile(other.folder / other.batches[0].file)


def test_weights_are_beside_the_newest_of_those_that_are_asked_for(made: Snapshot) -> None:
    one, two = made.batches
    old = one.model_copy(update={"ingested_at": NOW - timedelta(days=60)})
    decaying = write_snapshot(made.folder, [old, two], half_life_days=60)
    assert decaying.weights() == {"one": 0.5, "two": 1.0}
    assert decaying.weights([old]) == {"one": 1.0}
    rows = read_snapshot(made.folder).scan().collect()
    assert dict(rows.select("batch", "weight").unique().iter_rows()) == {"one": 0.5, "two": 1.0}
    assert "weight" not in made.scan().collect_schema()


def test_a_snapshot_that_is_not_whole_is_refused(made: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"snapshot.json: is no snapshot of a corpus"):
        read_snapshot(tmp_path)
    one, two = made.batches
    made.check(one)
    rows = pl.read_parquet(made.folder / one.file)
    rows.head(3).write_parquet(made.folder / one.file)
    with pytest.raises(BadInputError, match="was changed since it was written"):
        made.check(one)
    (made.folder / two.file).unlink()
    with pytest.raises(BadInputError, match="is missing; run the step again"):
        read_snapshot(made.folder)
