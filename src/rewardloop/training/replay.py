"""Which groups a warm-started retrain sees: all new ones, and a sample of those that the champion was trained on.

In: the items of the training split and the batches that the champion knows. Out: numbers of groups.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl

from rewardloop.config import WarmStartSettings

_DAY = 86_400.0


class Selection(NamedTuple):
    """Numbers of groups, each list sorted."""

    new: list[int]
    replayed: list[int]


def is_new(known_batches: Collection[str]) -> pl.Expr:
    """Whether an item was labeled in a batch that is not among ``known_batches``."""
    return pl.col("batches").list.set_difference(pl.lit(sorted(known_batches), pl.List(pl.String))).list.len() > 0


def select_groups(
    items: pl.DataFrame,
    *,
    known_batches: Collection[str],
    batch_times: Mapping[str, datetime],
    settings: WarmStartSettings,
    seed: int,
) -> Selection:
    """Choose the groups of a warm-started training.

    A group is new when any of its items is. Old groups are drawn without replacement, with weights that halve with
    every ``replay_half_life_days`` of age, counted from the newest batch.

    Args:
        items: rows of ``ITEMS`` of the training split.
        known_batches: digests of the batches in the champion's corpus.
        batch_times: when each batch was ingested; the age of items that do not say when they were labeled.
        settings: size and age decay of the replay.
        seed: of the draw.
    """
    groups = (
        items.filter(pl.col("group") >= 0)
        .with_columns(is_new(known_batches).alias("new"))
        .group_by("group")
        .agg(pl.col("new").any(), pl.col("labeled_at").max(), pl.col("batches").list.explode().unique())
        .sort("group")
    )
    new = groups.filter("new")["group"].to_list()
    old = groups.filter(~pl.col("new"))
    wanted = min(len(old), round(settings.replay_share * len(new)))
    if not wanted:
        return Selection(new, [])
    weights = np.ones(len(old))
    if settings.replay_half_life_days is not None:
        newest = max(batch_times.values())
        ages = [
            max(0.0, (newest - _when(labeled_at, batches, batch_times)).total_seconds() / _DAY)
            for labeled_at, batches in old.select("labeled_at", "batches").iter_rows()
        ]
        weights = 0.5 ** (np.array(ages) / settings.replay_half_life_days)
        # Weights of very old groups vanish in floating point, and a draw needs enough that do not.
        weights = np.maximum(weights, np.finfo(float).tiny ** 0.5)
    drawn = np.random.default_rng(seed).choice(len(old), wanted, replace=False, p=weights / weights.sum())
    return Selection(new, sorted(int(old["group"][int(place)]) for place in drawn))


def _when(labeled_at: str | None, batches: list[str], times: Mapping[str, datetime]) -> datetime:
    if labeled_at is None:
        return max(times[batch] for batch in batches)
    when = datetime.fromisoformat(labeled_at)
    return when if when.tzinfo else when.replace(tzinfo=max(times.values()).tzinfo)
