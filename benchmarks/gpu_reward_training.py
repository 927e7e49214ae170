"""Reward-model training on one CUDA device: tokens per second and share of the device's peak.

    python -m benchmarks.gpu_reward_training [--layers N] [--steps N]

A Llama of 1.3 billion weights, random, bfloat16 autocast over float32 weights, groups of K=4 (prompt 120, responses 60
tokens): packed rows of 2,048 and 8,192 tokens through FlexAttention, and the same groups padded. The last line is one
JSON object; without a CUDA device it says that the benchmark was skipped.
"""

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import torch
import typer

from benchmarks import workloads
from rewardloop.config import TrainingSettings
from rewardloop.modeling.scoring import Block, Reading
from rewardloop.training.collation import Group
from rewardloop.training.hardware import Work, peak_flops
from rewardloop.training.reward import RewardTrainer

_ROWS = (2048, 8192)
_GROUPS_PER_STEP = 64
_WARM_UP = 3
_VOCABULARY = 32_000


def build(layers: int) -> Any:
    """A Llama with 2048 dimensions: 24 layers make 1.3 billion weights."""
    with torch.device("cuda"):
        return workloads.random_llama(
            layers,
            vocab_size=_VOCABULARY,
            hidden_size=2048,
            intermediate_size=5504,
            num_attention_heads=16,
            num_key_value_heads=16,
        )


def measure(layers: int, steps: int, row: int, *, padded: bool) -> dict[str, Any]:
    """Seconds of ``steps`` optimizer steps after three that do not count."""
    groups = [
        Group(
            number,
            (
                Block(
                    [token % _VOCABULARY for token in one["prompt"]],
                    tuple([t % _VOCABULARY for t in r] for r in one["responses"]),
                ),
            ),
            tuple(int(pair[0]) for pair in one["pairs"]),
            tuple(int(pair[1]) for pair in one["pairs"]),
            tuple(pair[2] for pair in one["pairs"]),
        )
        for number, one in enumerate(workloads.ranked(_GROUPS_PER_STEP * 2, seed=0))
    ]
    settings = TrainingSettings(
        groups_per_step=_GROUPS_PER_STEP, precision="bfloat16", tokens_per_batch=row, learning_rate=1e-5
    )
    trainer = RewardTrainer(build(layers), 0, settings, train=groups, validation=groups[:1], max_length=512)
    if padded:
        trainer.reading = trainer.reader.reading = Reading("padded")
        trainer.model.set_attn_implementation("sdpa")
        trainer.budget = row * 4
    torch.cuda.reset_peak_memory_stats()
    for step in range(_WARM_UP):
        trainer._step(trainer.order.places(step))
    trainer.progress.tokens = trainer.progress.positions = 0
    torch.cuda.synchronize()
    started = time.perf_counter()
    for step in range(steps):
        trainer._step(trainer.order.places(step))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = peak_flops(trainer.device, "bfloat16")
    blocks = [block for step in range(steps) for place in trainer.order.places(step) for block in groups[place].blocks]
    useful = Work(trainer.model, 0).of(blocks, sum(block.tokens for block in blocks))
    return {
        "reading": trainer.reading.kind,
        "flex": trainer.reading.flex,
        "tokens_per_second": round(sum(block.tokens for block in blocks) / seconds),
        "share_of_peak": round(useful / seconds / peak.flops, 4),
        "padding_share": round(1 - trainer.progress.tokens / trainer.progress.positions, 4),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
        "peak": peak.source,
    }


def main(
    layers: Annotated[int, typer.Option(help="Layers of the model; 24 make 1.3 billion weights.")] = 24,
    steps: Annotated[int, typer.Option(help="Optimizer steps that count.")] = 10,
) -> None:
    """Measure and print one JSON object as the last line."""
    if not torch.cuda.is_available():
        print(json.dumps({"skipped": "no CUDA device on this machine: nothing was measured"}))
        return
    result: dict[str, Any] = {"device": torch.cuda.get_device_name(), "date": datetime.now(UTC).date().isoformat()}
    for row in _ROWS:
        for padded in (False, True):
            name = f"{'padded' if padded else 'packed'}_{row}"
            result[name] = measure(layers, steps, row, padded=padded)
            print(f"{name}: {result[name]}", flush=True)
            torch.cuda.empty_cache()
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
