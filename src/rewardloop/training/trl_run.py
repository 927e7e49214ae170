"""What every training by TRL shares: its arguments, how it goes on after a kill, and what is told while it runs.

In: a trainer of TRL. Out: the trainer after its last step. Checkpoints are the trainer's own, in a folder of the
caller's; nothing is sent, printed or drawn.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rewardloop.training.hardware import choose_precision

SAVES = 8
"""Checkpoints over a run."""
EachLog = Callable[[int, list[dict[str, Any]]], object]
"""Told the optimizer step and the trainer's log history, whose last entry is new."""


def shared_arguments(
    checkpoints: Path,
    *,
    device: torch.device,
    precision: str,
    rows: int,
    rows_at_once: int,
    save_steps: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    """Arguments of any of TRL's configurations.

    Args:
        checkpoints: folder of the trainer's checkpoints.
        device: where the weights are.
        precision: ``float32``, ``bfloat16`` or ``auto``; see ``computes_in``.
        rows: that an optimizer step learns from.
        rows_at_once: that go through the model at once; divides ``rows``.
        save_steps: optimizer steps between checkpoints.
        learning_rate: the highest.
        seed: of the order of rows and of all sampling.
    """
    gpu = device.type == "cuda"
    return {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": rows_at_once,
        "gradient_accumulation_steps": rows // rows_at_once,
        "learning_rate": learning_rate,
        "seed": seed,
        "save_strategy": "steps",
        "save_steps": save_steps,
        # A kill while one is written leaves the one before.
        "save_total_limit": 2,
        "use_cpu": not gpu,
        # TRL's default is bfloat16 everywhere.
        "bf16": computes_in(precision, device) == "bfloat16",
        # TRL's default pays a fifth of the speed for memory that rows_at_once already bounds.
        "gradient_checkpointing": False,
        "dataloader_pin_memory": gpu,
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
    }


def computes_in(precision: str, device: torch.device) -> str:
    """``float32`` or ``bfloat16``: what TRL's passes compute in. Weights are float32; on a CPU everything is."""
    return choose_precision(precision, device) if device.type == "cuda" else "float32"


def on_one_device(arguments: Any) -> Any:
    """The same arguments for one process on one GPU, also where more are visible: TRL refuses ``DataParallel``."""
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def rows_at_once(rows: int, length: float, tokens: int) -> int:
    """The largest divisor of ``rows`` of which so many rows of ``length`` tokens stay within ``tokens``; at least 1."""
    return max(part for part in range(1, rows + 1) if rows % part == 0 and (part == 1 or part * length <= tokens))


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of weights that are read and written, and no warnings of libraries about each other."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if bars:
            logging.enable_progress_bar()


def run_trainer(trainer: Any, checkpoints: Path, each_log: EachLog | None = None) -> int | None:
    """Train to the end, on from the last whole checkpoint.

    Each entry of the log history gets ``seconds``: what training took so far, in all calls.

    Returns:
        The optimizer step that training went on from; None from the beginning.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_clock(each_log))
    found = last_whole(checkpoints)
    trainer.train(resume_from_checkpoint=None if found is None else str(found))
    _forget_forward(trainer.model)
    return None if found is None else _step(found)


def last_whole(checkpoints: Path) -> Path | None:
    """The last checkpoint that was written to its end: the trainer's state is written last."""
    whole = [path for path in checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _clock(each_log: EachLog | None) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        started = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            before = [entry["seconds"] for entry in state.log_history if "seconds" in entry]
            self.started = time.monotonic() - (before[-1] if before else 0.0)

        def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            state.log_history[-1]["seconds"] = round(time.monotonic() - self.started, 3)
            if each_log is not None:
                each_log(state.global_step, state.log_history)

    return Clock()


def _forget_forward(model: Any) -> None:
    """Take TRL's forward with its own loss, and accelerate's with autocast, off the model: it outlives the trainer."""
    for module in (model, model.get_base_model() if hasattr(model, "get_base_model") else model):
        vars(module).pop("forward", None)
        vars(module).pop("_original_forward", None)
