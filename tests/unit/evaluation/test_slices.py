"""Which pairs are in which slice, and that accuracy on a slice is that of its pairs."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from rewardloop.config import EvaluationSettings
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evaluation.slices import SliceSet, slice_lines, slice_masks
from tests.unit.evaluation.tables import tables

SETTINGS = EvaluationSettings(bootstrap_samples=100)


def pair_set(items: pl.DataFrame, pairs: pl.DataFrame) -> PairSet:
    result = PairSet.of(items, pairs, "test", np.zeros(len(items)), SETTINGS)
    assert result is not None
    return result


def sliced(**changes: Any) -> tuple[pl.DataFrame, PairSet, dict[str, Any]]:
    items, pairs = tables(per_split=30)
    # Columns that the caller does not plant are not there to be sliced by.
    items = items.select(pl.exclude("source", "labeler_kind")).with_columns(**changes)
    test = pair_set(items, pairs)
    return items, test, slice_masks(items, test)


def test_both_answers_of_a_pair_are_in_its_segment() -> None:
    even = (pl.col("item") % 2 == 0).alias("segment")
    _, test, masks = sliced(segment=pl.when(even).then(pl.lit("even")))
    for name, rest in {"segment even": 0, "segment (none)": 1}.items():
        assert masks[name].tolist() == ((test.a % 2 == rest) & (test.b % 2 == rest)).tolist()
    # A pair across segments is in neither.
    assert not (masks["segment even"] | masks["segment (none)"]).all()


def test_source_and_labeler_kind_where_the_table_has_them() -> None:
    _, test, masks = sliced(
        source=pl.when(pl.col("item") % 3 == 0).then(pl.lit("mail")).otherwise(pl.lit("chat")),
        labeler_kind=pl.when(pl.col("item") % 5 == 0).then(pl.lit("model")).otherwise(pl.lit("human")),
    )
    assert masks["source mail"].sum() == ((test.a % 3 == 0) & (test.b % 3 == 0)).sum()
    assert masks["labeler kind human"].sum() == ((test.a % 5 != 0) & (test.b % 5 != 0)).sum()
    assert not any(name.startswith(("source", "labeler")) for name in sliced()[2])


def test_one_segment_for_all_and_empty_slices_are_left_out() -> None:
    _, _, masks = sliced()
    assert not any(name.startswith("segment") for name in masks)
    assert not any("prompts" in name for name in masks)  # all prompts are empty
    # A segment whose only answer is in no pair with itself has no pair.
    items, _, masks = sliced(segment=pl.when(pl.col("document") == "test-3").then(pl.lit("lonely")))
    assert "segment lonely" not in masks
    assert items["segment"].eq("lonely").sum() == 1


def test_length_bands_have_a_third_each() -> None:
    turns = pl.concat_list(
        pl.struct(
            pl.lit("user").alias("role"),
            pl.lit("x" * 30).str.head(pl.col("item") % 30).alias("content"),
        )
    )
    items, test, masks = sliced(prompt=turns)
    prompt = np.arange(len(items)) % 30
    mean = (prompt[test.a] + prompt[test.b]) / 2
    bands = [mean[masks[f"{band} third of prompts"]] for band in ("shortest", "middle", "longest")]
    assert bands[0].max() < bands[1].min()
    assert bands[1].max() < bands[2].min()
    assert sum(map(len, bands)) == len(mean)
    response = items["response"].str.len_chars().to_numpy()
    both = (response[test.a] + response[test.b]) / 2
    assert both[masks["shortest third"]].max() < both[masks["longest third"]].min()


def test_pairs_without_ratings_are_in_no_rating_band() -> None:
    items, pairs = tables(per_split=30)
    some = pl.when(pl.col("a") % 2 == 0).then("gap")
    test = pair_set(items, pairs.with_columns(some.alias("gap")))
    masks = slice_masks(items, test)
    bands = [masks[f"{band} third in rating"] for band in ("closest", "middle", "farthest")]
    assert sum(band.sum() for band in bands) == (test.a % 2 == 0).sum()
    none = pair_set(items, pairs.with_columns(pl.lit(None, pl.Float64).alias("gap")))
    assert not any("rating" in name for name in slice_masks(items, none))


def test_accuracy_on_a_slice_is_that_of_its_pairs() -> None:
    items, test, masks = sliced(segment=pl.when(pl.col("item") % 2 == 0).then(pl.lit("even")).otherwise(pl.lit("odd")))
    truth = items["rating"].to_numpy()
    reversed_in_odd = np.where(items["item"].to_numpy() % 2 == 0, truth, -truth)
    lines = {line.name: line.accuracy for line in slice_lines(items, test, reversed_in_odd, SETTINGS)}
    assert list(lines) == list(masks)
    assert (lines["segment even"].value, lines["segment odd"].value) == (1.0, 0.0)
    assert lines["segment even"].count == masks["segment even"].sum()
    named = slice_lines(items, test, truth, SETTINGS, criterion="tone")
    assert [line.name for line in named] == [f"tone: {name}" for name in lines]


def test_documents_of_a_slice_are_counted() -> None:
    # Three test answers in the segment, so three documents and three pairs.
    rare = pl.col("document").is_in(["test-1", "test-2", "test-5"])
    items, test, masks = sliced(segment=pl.when(rare).then(pl.lit("rare")))
    assert SliceSet.of(items, test).document_counts()["segment rare"] == 3
    assert masks["segment rare"].sum() == 3
    assert set(SliceSet.of(items, test).document_counts()) == set(masks)


@pytest.mark.parametrize("name", ["shortest third", "closest third in rating"])
def test_bands_where_all_are_equal_say_nothing(name: str) -> None:
    items, pairs = tables(per_split=30)
    test = pair_set(items.with_columns(pl.lit("same").alias("response")), pairs.with_columns(pl.lit(1.0).alias("gap")))
    assert name not in slice_masks(items.with_columns(pl.lit("same").alias("response")), test)
