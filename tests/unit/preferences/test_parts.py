"""A corpus built in parts: the same answers and pairs as in one look, whatever the parts."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.kept import Kept
from rewardloop.preferences import parts
from rewardloop.preferences.build import build
from rewardloop.records import FeedbackGroup
from rewardloop.snapshots import write_rows
from rewardloop.storage import Storage
from tests.unit.preferences.crowd import crowd
from tests.unit.preferences.feedback import frame, rated_texts

GIVEN: dict[str, Any] = {
    "splits": SplitSettings(),
    "evaluation": EvaluationSettings(bootstrap_samples=100),
    "golden": frozenset(),
}


def in_parts(feedback: pl.DataFrame, settings: PreferenceSettings, folder: Path) -> parts.LargePreferences:
    place, target = folder / "parts", folder / "preferences"
    target.mkdir()
    snapshot = write_rows(folder / "snapshot", feedback, datetime(2026, 3, 1, tzinfo=UTC))
    kept = Kept(Storage.open(str(folder / "store")))
    built = parts.build_if_large(snapshot, kept, place, target, preferences=settings, **GIVEN)
    assert built is not None
    return built


def told(items: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs by their texts: numbers differ where parts do."""
    texts = items.select("item", "prompt", "response", "acceptable", "split")
    sides = pairs.join(texts.drop("split"), left_on="a", right_on="item").join(
        texts, left_on="b", right_on="item", suffix="_b"
    )
    assert sides["split"].equals(sides["split_b"])
    return sides.select("split", "response", "response_b", "p", "votes", "p_error", "acceptable", "acceptable_b").sort(
        "response", "response_b"
    )


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LARGE", 1)
    monkeypatch.setattr(parts, "_PART", 40)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("method", ["none", "dawid_skene"])
def test_parts_give_what_one_look_gives(tmp_path: Path, method: str) -> None:
    feedback = frame([*crowd_groups(), *rated_texts(60)])
    settings = PreferenceSettings.model_validate({"reliability": {"method": method}})
    whole = build(feedback, preferences=settings, **GIVEN)
    found = in_parts(feedback, settings, tmp_path)
    items = pl.read_parquet(tmp_path / "preferences" / "items.parquet")
    pairs = pl.read_parquet(tmp_path / "preferences" / "pairs.parquet")
    assert items.schema == whole.items.schema
    assert pairs.schema == whole.pairs.schema
    assert items["item"].to_list() == list(range(len(items)))
    assert items["split"].to_list() == whole.items["split"].to_list()
    ours, theirs = told(items, pairs), told(whole.items, whole.pairs)
    numbers = ["p", "votes", "p_error"]
    assert ours.drop(numbers).equals(theirs.drop(numbers))
    for name in numbers:
        assert ours[name].to_list() == pytest.approx(theirs[name].to_list(), abs=1e-9)
    assert found.left_out == whole.left_out
    assert found.groups_used == whole.groups_used
    assert found.acceptability == whole.acceptability
    assert found.groups_built == whole.items.filter(pl.col("group") >= 0)["group"].n_unique()
    assert found.one_labeler == whole.one_labeler
    groups = items.filter(pl.col("group") >= 0).group_by("group").agg(pl.col("split").n_unique())
    assert groups["split"].max() == 1


@pytest.mark.usefixtures("small_parts")
def test_lines_of_splits_add_up(tmp_path: Path) -> None:
    found = in_parts(frame(crowd_groups()), PreferenceSettings(), tmp_path)
    items = pl.read_parquet(tmp_path / "preferences" / "items.parquet")
    for line in found.splits:
        mine = items.filter(split=line.split)
        assert (line.items, line.documents) == (len(mine), mine["document"].n_unique())


def test_a_small_corpus_is_looked_at_at_once(tmp_path: Path) -> None:
    snapshot = write_rows(tmp_path, frame(crowd_groups()).with_columns(batch=pl.lit("one")), datetime.now(UTC))
    kept = Kept(Storage.open(str(tmp_path / "store")))
    settings = PreferenceSettings()
    assert parts.build_if_large(snapshot, kept, tmp_path, tmp_path, preferences=settings, **GIVEN) is None
    assert kept.results() == []


@pytest.mark.usefixtures("small_parts")
def test_the_sample_has_every_labeler(tmp_path: Path) -> None:
    settings = PreferenceSettings.model_validate({"reliability": {"max_votes_per_labeler": 5}})
    feedback = frame(crowd_groups())
    found = in_parts(feedback, settings, tmp_path)
    everybody = feedback.select(pl.col("labels").explode()).unnest("labels")["labeler"].unique()
    assert {line.labeler for line in found.told.labelers} == set(everybody)
    words = re.search(r"a sample of (\d+) of 200 groups", found.told.reliability)
    assert words is not None
    assert int(words[1]) < 200


def crowd_groups() -> list[FeedbackGroup]:
    return crowd({"good": 12, "random": 2, "first": 1}, pairs=200).groups
