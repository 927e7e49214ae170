"""What the peers share: the pairs they read, the stopwatch and the token counts of a training run, the report.

In: a JSONL file of groups; a transformers Trainer. Out: lists of (chosen, rejected) token ids; one JSON line on stdout.
The peers run as scripts in their own environment: nothing here may import rewardloop or benchmarks.
"""

import json
import random
import resource
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import Trainer, TrainerCallback


class Pair(NamedTuple):
    """Token ids of prompt + better response, and of prompt + worse response."""

    chosen: list[int]
    rejected: list[int]


def read_pairs(groups_file: str, limit: int | None) -> list[Pair]:
    """All pairs of all groups; with ``limit``, a seeded subset of so many, in the order of the file.

    Raises:
        ValueError: a pair that no side wins (a trainer on chosen and rejected cannot take it).
    """
    found = []
    with Path(groups_file).open(encoding="utf-8") as stream:
        for line in stream:
            group = json.loads(line)
            whole = [group["prompt"] + response for response in group["responses"]]
            for a, b, p in group["pairs"]:
                if p == 0.5:
                    raise ValueError(f"{groups_file}: pair [{a}, {b}, {p}] has no better side")
                found.append(Pair(whole[a], whole[b]) if p > 0.5 else Pair(whole[b], whole[a]))
    return subset(found, limit)


def subset(rows: list[Any], limit: int | None) -> list[Any]:
    """A seeded choice of ``limit`` rows in their order; all of them without a limit."""
    if limit is None or limit >= len(rows):
        return rows
    return [rows[index] for index in sorted(random.Random(0).sample(range(len(rows)), limit))]


def plain_settings(arguments: Any, output_folder: str) -> dict[str, Any]:
    """The TrainingArguments of every training peer: one pass over the pairs and nothing but training."""
    return {
        "output_dir": output_folder,
        "learning_rate": arguments.learning_rate,
        "per_device_train_batch_size": arguments.pairs_per_batch,
        "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        "num_train_epochs": 1,
        "max_steps": -1 if arguments.max_steps is None else arguments.max_steps,
        "seed": 0,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def is_bfloat16(dtype: str) -> bool:
    """Whether to train in bfloat16: autocast over float32 weights, what ``bf16=True`` means to a Trainer."""
    if dtype not in {"float32", "bfloat16"}:
        raise ValueError(f"dtype: {dtype!r}; expected float32 or bfloat16")
    return dtype == "bfloat16"


class CountingTrainer(Trainer):
    """Counts what the training steps processed. Every mask of a batch is one side, or both, of its pairs."""

    sequences = 0
    tokens_processed = 0
    tokens_real = 0

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> torch.Tensor:
        for name, mask in inputs.items():
            if name.endswith("attention_mask"):
                self.sequences += mask.shape[0]
                self.tokens_processed += mask.numel()
                self.tokens_real += int(mask.sum())
        return super().training_step(model, inputs, *rest, **named)


class Stopwatch(TrainerCallback):
    """Times the training steps, after one batch forward and backward that does not count."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.seconds = self.cpu_seconds = float("nan")
        self._started = (float("nan"), float("nan"))

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        # The first batch pays for allocations and kernel choices that no later batch pays for.
        trainer, size = self.trainer, self.trainer.args.per_device_train_batch_size
        trainer.model_wrapped.train()  # in evaluation mode gradient checkpointing would be off and memory higher
        rows = [trainer.train_dataset[index] for index in range(min(size, len(trainer.train_dataset)))]
        loss = trainer.compute_loss(trainer.model_wrapped, trainer._prepare_inputs(trainer.data_collator(rows)))
        trainer.accelerator.backward(loss)
        trainer.model_wrapped.zero_grad()
        self._started = (time.perf_counter(), time.process_time())

    def on_train_end(self, *_: Any, **__: Any) -> None:
        ended = (time.perf_counter(), time.process_time())
        self.seconds, self.cpu_seconds = (end - start for end, start in zip(ended, self._started, strict=True))


def train(trainer: CountingTrainer) -> dict[str, Any]:
    """Train and report: seconds of the steps alone, what they processed, and what the process took in memory."""
    stopwatch = Stopwatch(trainer)
    trainer.add_callback(stopwatch)
    outcome = trainer.train()
    return {
        "seconds": stopwatch.seconds,
        "cpu_seconds": stopwatch.cpu_seconds,  # far below seconds x threads: something else had the machine
        "pairs": trainer.sequences // 2,
        "steps": trainer.state.global_step,
        "tokens_processed": trainer.tokens_processed,
        "tokens_real": trainer.tokens_real,
        "peak_rss_bytes": peak_rss_bytes(),
        "dtype": "bfloat16" if trainer.args.bf16 else "float32",
        "gradient_checkpointing": trainer.args.gradient_checkpointing,
        "mean_loss": outcome.training_loss,
    }


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far."""
    # A child's ru_maxrss starts at its parent's own peak on Linux (it outlives exec), which would charge a peer with
    # the memory of the benchmark that started it. VmHWM belongs to this program alone.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Where there is no /proc (macOS), ru_maxrss is in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def report(peer: str, facts: dict[str, Any]) -> None:
    """Print the one line that the caller reads; call it last."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"peer": peer, **facts, "versions": versions, "threads": torch.get_num_threads()}))
