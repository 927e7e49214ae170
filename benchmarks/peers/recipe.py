"""The recipe of "tailored reward models on SageMaker": a Trainer with two forward passes, both padded to max_length.

In (one JSON argument): ``Arguments``. Out: one JSON line with seconds, pairs, steps, tokens and peak memory.
The loss is the mean of -log sigmoid(r_chosen - r_rejected), over a batch of two pairs unless said otherwise.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from measuring import CountingTrainer, Pair, is_bfloat16, plain_settings, read_pairs, report, train
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, TrainingArguments

_SIDES = ("chosen", "rejected")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """``limit``: train on a seeded subset of so many pairs; ``max_steps``: stop after so many optimizer steps."""

    base: str
    groups: str
    learning_rate: float
    max_length: int  # every sequence is padded to it, or cut to it
    pairs_per_batch: int = 2
    gradient_accumulation_steps: int = 1
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    max_steps: int | None = None
    limit: int | None = None


class RecipeTrainer(CountingTrainer):
    """Scores the two sides one after the other."""

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], **_: Any) -> torch.Tensor:
        chosen, rejected = (
            model(input_ids=inputs[f"{side}_input_ids"], attention_mask=inputs[f"{side}_attention_mask"]).logits
            for side in _SIDES
        )
        return -logsigmoid(chosen - rejected).mean()


def pad_pair(pair: Pair, max_length: int, pad_token_id: int) -> dict[str, list[int]]:
    """Both sides at exactly ``max_length`` tokens, padded on the right as ``padding="max_length"`` does."""
    padded = {}
    for side, ids in zip(_SIDES, pair, strict=True):
        kept = ids[:max_length]
        missing = max_length - len(kept)
        padded[f"{side}_input_ids"] = kept + [pad_token_id] * missing
        padded[f"{side}_attention_mask"] = [1] * len(kept) + [0] * missing
    return padded


def stack(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """A batch of rows of equal length, each field (batch, max_length)."""
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    arguments = Arguments(**json.loads(sys.argv[1]))
    pairs = read_pairs(arguments.groups, arguments.limit)
    truncated = sum(len(ids) > arguments.max_length for pair in pairs for ids in pair)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.base, num_labels=1, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as output_folder:
        trainer = RecipeTrainer(
            model=model,
            args=TrainingArguments(
                **plain_settings(arguments, output_folder),
                bf16=is_bfloat16(arguments.dtype),
                gradient_checkpointing=arguments.gradient_checkpointing,
                remove_unused_columns=False,  # the two sides are no arguments of the model's forward
            ),
            train_dataset=[pad_pair(pair, arguments.max_length, model.config.pad_token_id) for pair in pairs],
            data_collator=stack,
        )
        facts = train(trainer)
    report("recipe", {**facts, "max_length": arguments.max_length, "sequences_truncated": truncated})


if __name__ == "__main__":
    main()
