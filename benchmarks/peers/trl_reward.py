"""TRL's RewardTrainer on all pairs of the groups, once.

In (one JSON argument): ``Arguments``. Out: one JSON line with seconds, pairs, steps, tokens and peak memory.
TRL takes pairs of token ids as they are (``chosen_ids``, ``rejected_ids``): it appends no end-of-text token to them.
"""

import json
import sys
import tempfile
from dataclasses import dataclass

import trl
from datasets import Dataset
from measuring import CountingTrainer, is_bfloat16, plain_settings, read_pairs, report, train


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """``limit``: train on a seeded subset of so many pairs; ``max_steps``: stop after so many optimizer steps."""

    base: str
    groups: str
    learning_rate: float
    pairs_per_batch: int = 8
    gradient_accumulation_steps: int = 1
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    defaults: bool = False  # what TRL itself chooses for dtype and gradient checkpointing, whatever is said above
    max_length: int | None = None  # TRL drops the pairs that are longer; null drops none
    max_steps: int | None = None
    limit: int | None = None


class CountingRewardTrainer(CountingTrainer, trl.RewardTrainer):
    """RewardTrainer that counts its tokens."""


def main() -> None:
    arguments = Arguments(**json.loads(sys.argv[1]))
    pairs = read_pairs(arguments.groups, arguments.limit)
    chosen, rejected = zip(*pairs, strict=True)
    precision = {
        "bf16": is_bfloat16(arguments.dtype),
        "gradient_checkpointing": arguments.gradient_checkpointing,
    }
    with tempfile.TemporaryDirectory() as output_folder:
        trainer = CountingRewardTrainer(
            model=arguments.base,
            args=trl.RewardConfig(
                **plain_settings(arguments, output_folder),
                **({} if arguments.defaults else precision),
                max_length=arguments.max_length,
            ),
            train_dataset=Dataset.from_dict({"chosen_ids": list(chosen), "rejected_ids": list(rejected)}),
        )
        facts = train(trainer)
    report("trl_reward", {**facts, "defaults": arguments.defaults, "trl": trl.__version__})


if __name__ == "__main__":
    main()
