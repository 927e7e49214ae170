"""A warm-started retrain sees every new group and a sample of the old ones."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from rewardloop.config import WarmStartSettings
from rewardloop.training.replay import select_groups

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TIMES = {"old": NOW - timedelta(days=300), "mid": NOW - timedelta(days=100), "new": NOW}


def items(*groups: tuple[list[str], str | None]) -> pl.DataFrame:
    rows = [
        {"group": number, "batches": batches, "labeled_at": when}
        for number, (batches, when) in enumerate(groups)
        for _ in range(2)
    ]
    schema = {"group": pl.Int32, "batches": pl.List(pl.String), "labeled_at": pl.String}
    return pl.DataFrame(rows, schema=schema)


def chosen(table: pl.DataFrame, seed: int = 0, **changes: float) -> tuple[list[int], list[int]]:
    settings = WarmStartSettings.model_validate(changes)
    return select_groups(table, known_batches={"old", "mid"}, batch_times=TIMES, settings=settings, seed=seed)


def test_new_groups_are_those_with_labels_of_a_new_batch() -> None:
    table = items((["old"], None), (["old", "new"], None), (["new"], None), (["mid"], None))
    new, replayed = chosen(table, replay_share=10)
    assert new == [1, 2]
    assert replayed == [0, 3]


def test_the_replay_is_as_large_as_configured_and_seeded() -> None:
    table = items(*[(["old"], None)] * 40, *[(["new"], None)] * 10)
    new, replayed = chosen(table, replay_share=1.5)
    assert len(new) == 10
    assert len(replayed) == 15
    assert replayed == chosen(table, replay_share=1.5)[1]
    assert replayed != chosen(table, seed=1, replay_share=1.5)[1]
    assert chosen(table, replay_share=0)[1] == []


def test_older_groups_are_replayed_less() -> None:
    # Half from 300 days ago, half from 100: two half-lives of 100 days apart, so one to four.
    table = items(*[(["old"], None)] * 500, *[(["mid"], None)] * 500, *[(["new"], None)] * 50)
    drawn = np.concatenate([chosen(table, seed=seed, replay_half_life_days=100)[1] for seed in range(20)])
    assert 0.15 < np.mean(drawn < 500) < 0.26


def test_the_time_of_a_label_goes_before_that_of_its_batch() -> None:
    old = (NOW - timedelta(days=4000)).isoformat()
    table = items(*[(["mid"], old)] * 20, *[(["mid"], None)] * 20, *[(["new"], None)] * 10)
    _, replayed = chosen(table, replay_half_life_days=10)
    assert min(replayed) >= 20
