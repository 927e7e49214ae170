"""rewardloop's own trainer on the same groups, measured like the peers.

In (one JSON argument): ``Arguments``. Out: one JSON line with seconds, groups, steps, tokens, peak memory, and how far
its gradient is from that of the padded computation. It runs where rewardloop is installed.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import peak_rss_bytes, report
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from rewardloop.config import TrainingSettings
from rewardloop.modeling.scoring import Block, Reading, read_packed, read_padded
from rewardloop.training.collation import Group, PaddedRows, collate
from rewardloop.training.loss import Objective, group_loss
from rewardloop.training.reward import RewardTrainer

_COMPARED = 2
"""Groups whose gradient is compared with the padded one."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """``groups``: a JSONL file of groups."""

    base: str
    groups: str
    learning_rate: float
    groups_per_step: int
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    tokens_per_batch: int | None = None


def read_groups(path: str) -> list[Group]:
    groups = []
    with Path(path).open(encoding="utf-8") as stream:
        for number, line in enumerate(stream):
            row = json.loads(line)
            a, b, p = zip(*row["pairs"], strict=True)
            responses = tuple(row["responses"])
            shared = (Block(row["prompt"], responses),)
            blocks = shared if row["prompt"] else tuple(Block([], (one,)) for one in responses)
            groups.append(Group(number, blocks, tuple(map(int, a)), tuple(map(int, b)), p))
    return groups


def gradient_difference(trainer: RewardTrainer, groups: list[Group]) -> float:
    """Norm of (packed gradient - padded gradient), relative to the padded one's, in float32."""
    model = trainer.model
    found = []
    for reading in (Reading("padded"), trainer.reading):
        model.zero_grad()
        batch = collate(groups, reading, 0)
        if isinstance(batch.rows, PaddedRows):
            scores = read_padded(model, *batch.rows)
        else:
            scores = read_packed(model, batch.rows, reading)
        group_loss(scores, batch.pairs, batch.group_N, batch.groups, Objective()).loss_G.mean().backward()
        found.append([value.grad.clone() for value in model.parameters() if value.grad is not None])
    padded, packed = found
    model.zero_grad()

    def norm(values: list[Tensor]) -> Tensor:
        return torch.sqrt(sum((value.double() ** 2).sum() for value in values))

    return float(norm([x - y for x, y in zip(packed, padded, strict=True)]) / norm(padded))


def measure(arguments: Arguments) -> dict[str, Any]:
    groups = read_groups(arguments.groups)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.base, dtype=torch.float32)
    settings = TrainingSettings(
        groups_per_step=arguments.groups_per_step,
        learning_rate=arguments.learning_rate,
        precision=arguments.dtype,
        tokens_per_batch=arguments.tokens_per_batch,
        gradient_checkpointing=arguments.gradient_checkpointing,
        centering=0.0,
    )
    if arguments.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    trainer = RewardTrainer(model, 0, settings, train=groups, validation=groups[:1], max_length=8192)
    trainer.reader.train()
    # The first batches pay for allocations and kernel choices that no later ones pay for.
    first = [trainer.train[place] for place in trainer.order.places(0)]
    for row, _ in trainer._rows(first) * 2:
        batch = collate([first[place] for place in row], trainer.reading, 0)
        trainer.reader(batch.rows).sum().backward()
    model.zero_grad()
    started, cpu_started = time.perf_counter(), time.process_time()
    losses = [trainer._step(trainer.order.places(step))[0] for step in range(trainer.steps)]
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = peak_rss_bytes()
    model.eval()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "pairs": sum(len(group.a) for group in groups),
        "steps": trainer.steps,
        "tokens_processed": trainer.progress.positions,
        "tokens_real": trainer.progress.tokens,
        "padding_share": 1 - trainer.progress.tokens / trainer.progress.positions,
        "peak_rss_bytes": peak,
        "dtype": trainer.precision,
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "tokens_per_batch": trainer.budget,
        "reading": trainer.reading.kind,
        "mean_loss": sum(losses) / len(losses),
        "gradient_difference": gradient_difference(trainer, groups[:_COMPARED]),
    }


if __name__ == "__main__":
    report("rewardloop", measure(Arguments(**json.loads(sys.argv[1]))))
