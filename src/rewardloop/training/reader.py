"""The model as a training calls it: batch in, scores out, on whatever device and in whatever precision.

In: a sequence-classification model, perhaps wrapped for LoRA, and how it is read. Out: one module that ``accelerate``
can replicate or shard, and how many tokens it is given at once.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from rewardloop.modeling.reward_model import scoring_module
from rewardloop.modeling.scoring import PackedRow, Reading, read_packed, read_padded
from rewardloop.training.collation import PaddedRows

_PREFIX = "model."

TOKENS_PER_BATCH = {"packed": 3072, "masked": 512, "padded": 3072}
"""On a CPU: longer rows are no faster, and attention over a masked row costs its square."""
TOKENS_PER_BATCH_CUDA = {"packed": 16_384, "masked": 2048, "padded": 16_384}


class Reader(nn.Module):
    """Scores of a batch, in one call."""

    def __init__(self, model: Any, reading: Reading, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.model = model
        self.reading = reading
        self.autocast = autocast
        # Which modules accelerate shards one by one.
        self._no_split_modules = getattr(scoring_module(model), "_no_split_modules", None)

    def forward(self, rows: PackedRow | PaddedRows) -> Tensor:
        """Scores of the batch's responses, float32 of shape (N,)."""
        model = scoring_module(self.model)
        with self.autocast():
            if isinstance(rows, PackedRow):
                return read_packed(model, rows, self.reading)
            return read_padded(model, rows.ids_RT, rows.mask_RT)


def models_own_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a ``Reader`` by the names that they have in its model."""
    return {name.removeprefix(_PREFIX): value for name, value in weights.items()}


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator, of a GPU or of the CPU, found no memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
