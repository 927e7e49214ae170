"""Held-out answers that a reward model is scored on before and after it is trained on: is anything forgotten?

In: items and pairs, and the batches that the model knows. Out: a sample of the test split's old answers as groups to
watch, and accuracies before and after. The validation groups are those of the training itself.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from rewardloop.config import TrainingSettings
from rewardloop.evidence import BeforeAfter
from rewardloop.training.replay import is_new
from rewardloop.training.reward import RewardTrainer

_TOGETHER = 16
"""Single texts that are compared with each other."""


@dataclass(frozen=True)
class OldAnswers:
    """A sample of the test split, and which validation groups hold nothing new."""

    items: pl.DataFrame
    pairs: pl.DataFrame
    old_validation: frozenset[int]

    @classmethod
    def of(
        cls, items: pl.DataFrame, pairs: pl.DataFrame, known: Collection[str], settings: TrainingSettings
    ) -> "OldAnswers":
        """Draw the sample; groups stay whole, single texts are put together in groups of 16."""
        drawn = np.random.default_rng(settings.seed)
        marked = items.with_columns((~is_new(known)).alias("old"))
        old_validation = (
            marked.filter(split="validation").group_by("group").agg(pl.col("old").all()).filter("old")["group"]
        )
        test = marked.filter((pl.col("split") == "test") & pl.col("old"))
        order = pl.DataFrame({"item": drawn.permutation(test["item"].to_numpy())}).with_row_index("place")
        placed = test.join(order, on="item").with_columns(
            # Negative numbers: groups of a training are 0 and above.
            pl.when(pl.col("group") < 0)
            .then(-1 - (pl.col("place") // _TOGETHER).cast(pl.Int64))
            .otherwise(pl.col("group").cast(pl.Int64))
            .alias("watched")
        )
        # In the order of their first answer in the shuffle, as many groups as the sample has room for.
        sized = placed.group_by("watched").agg(pl.len(), pl.col("place").min()).sort("place")
        chosen = sized.filter(pl.col("len").cum_sum() - pl.col("len") < settings.warm_start.check_items)["watched"]
        sample = placed.filter(pl.col("watched").is_in(chosen.implode()))
        side = sample.select("item", "watched")
        inside = (
            pairs.filter((pl.col("split") == "test") & (pl.col("p") != 0.5))
            .join(side, left_on="a", right_on="item")
            .join(side.rename({"watched": "other"}), left_on="b", right_on="item")
            .filter(pl.col("watched") == pl.col("other"))
            .with_columns(pl.col("watched").alias("group"))
            .select(pairs.columns)
        )
        return cls(sample.select(items.columns), inside, frozenset(old_validation.to_list()))

    def compare(self, trainer: RewardTrainer) -> dict[str, BeforeAfter]:
        """Accuracies on the trainer's validation groups, on the old ones among them, and on the sample."""
        validation = range(len(trainer.validation))
        parts = {
            "validation": validation,
            "old_validation": [i for i in validation if trainer.validation[i].group in self.old_validation],
            "old_test": range(len(trainer.validation), len(trainer.watched)),
        }
        found = {name: _before_after(trainer, places) for name, places in parts.items()}
        return {name: value for name, value in found.items() if value is not None}


def _before_after(trainer: RewardTrainer, places: Iterable[int]) -> BeforeAfter | None:
    before, after, decided = 0, 0, 0
    assert trainer.progress.right_before is not None
    for place in places:
        before += trainer.progress.right_before[place]
        after += trainer.right_after[place]
        decided += sum(p != 0.5 for p in trainer.watched[place].p)
    return BeforeAfter(pairs=decided, before=before / decided, after=after / decided) if decided else None
