"""Labels that lose weight with age: p and the weight of a pair, worked by hand, up to the loss."""

import polars as pl
import pytest
import torch

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.preferences.build import Preferences, build
from rewardloop.training.loss import Objective, Pairs, group_loss
from tests.unit.preferences.feedback import choice, frame, group

EVERYTHING = SplitSettings(train=1, validation=0, calibration=0, test=0, golden=0)


def aged(**weights: float) -> pl.DataFrame:
    """Question ``both`` judged in each batch, the first prefers A and the others B; ``old``: in the first one only."""
    parts = []
    for number, (name, weight) in enumerate(weights.items()):
        sides = "ab" if number == 0 else "ba"
        groups = [group(["A", "B"], [choice(*sides, who=f"w{number}")], prompt="both")]
        if number == 0:
            groups.append(group(["C", "D"], [choice("a", "b", "w0")], prompt="old"))
        parts.append(frame(groups, name).with_columns(weight=pl.lit(weight)))
    return pl.concat(parts)


def built(feedback: pl.DataFrame) -> Preferences:
    return build(
        feedback,
        preferences=PreferenceSettings(),
        splits=EVERYTHING,
        evaluation=EvaluationSettings(),
        golden=frozenset(),
    )


def by_prompt(found: Preferences) -> dict[str, dict[str, float]]:
    prompts = found.items.select("item", pl.col("prompt").list.first().struct.field("content").alias("asked"))
    table = found.pairs.join(prompts, left_on="a", right_on="item")
    return {row["asked"]: row for row in table.iter_rows(named=True)}


def test_old_labels_weigh_less_against_new_ones() -> None:
    # The old batch's one vote weighs 1/4, the new one's 1: p = 1/4 / (1/4 + 1) for A.
    both = by_prompt(built(aged(old=0.25, new=1.0)))["both"]
    assert both["p"] == pytest.approx(0.2)
    # (1/4 + 1)^2 / (1/16 + 1): as much as so many equal votes.
    assert both["votes"] == pytest.approx(1.5625 / 1.0625)
    assert both["weight"] == pytest.approx(0.625)  # the mean of 1/4 and 1


def test_a_pair_that_is_old_altogether_keeps_its_p_and_loses_weight() -> None:
    old = by_prompt(built(aged(old=0.25, new=1.0)))["old"]
    assert (old["p"], old["votes"], old["weight"]) == (1.0, 1.0, 0.25)


def test_without_decay_nothing_changes() -> None:
    plain, ones = (built(table) for table in (aged(old=1.0, new=1.0).drop("weight"), aged(old=1.0, new=1.0)))
    assert plain.pairs.equals(ones.pairs)
    assert set(plain.pairs["weight"]) == {1.0}
    assert by_prompt(plain)["both"]["p"] == 0.5


def test_the_loss_counts_a_pair_by_its_weight() -> None:
    """Two groups of one pair, scores 0: each loses log 2, times its weight over the mean weight 0.625."""
    pairs = Pairs(
        a_P=torch.tensor([0, 2]),
        b_P=torch.tensor([1, 3]),
        p_P=torch.tensor([1.0, 1.0]),
        group_P=torch.tensor([0, 1]),
        votes_P=torch.ones(2),
        gap_P=torch.full((2,), float("nan")),
        weight_P=torch.tensor([0.25, 1.0]),
    )
    found = group_loss(torch.zeros(4), pairs, torch.tensor([0, 0, 1, 1]), 2, Objective(mean_weight=0.625))
    assert found.loss_G.tolist() == pytest.approx([0.693147 * 0.4, 0.693147 * 1.6], rel=1e-5)
    assert pairs.to(torch.device("cpu")).weight_P is not None
