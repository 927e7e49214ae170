"""What the machine could do and what a training used of it.

In: a device, a precision, the model's trained and frozen weights. Out: peak rate, useful operations, peak memory.
"""

import ctypes
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from rewardloop.memory import peak_rss_bytes
from rewardloop.modeling.reward_model import scoring_module
from rewardloop.modeling.scoring import Block, decoder_layers, fast_bfloat16, linear

# Dense bfloat16 of tensor cores, without sparsity, from NVIDIA's data sheets. The first name that is part of the
# device's name counts.
_DATA_SHEET = (
    ("B200", 2250e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("L4", 121e12),
    ("A10G", 70e12),
    ("A10", 125e12),
)
_MEASURED_SECONDS = 0.3
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Numbers of glibc's malloc.h."""


@dataclass(frozen=True)
class Peak:
    """Floating-point operations per second at best, and how that is known."""

    flops: float
    source: str


def choose_precision(wanted: str, device: torch.device) -> str:
    """``float32`` or ``bfloat16``; ``auto`` takes bfloat16 where the hardware computes in it."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if fast_bfloat16(device) else "float32"


@dataclass(frozen=True)
class Usage:
    """What a training ran on and what it used of that; the names are those of ``evidence.TrainingEvidence``."""

    precision: str
    device: str
    processes: int
    utilization: float
    peak_flops: float
    peak_flops_source: str
    peak_memory_bytes: int


def measure_usage(device: torch.device, precision: str, processes: int, *, rate: float) -> Usage:
    """Of a training of ``rate`` useful operations per second, in all its processes together."""
    peak = peak_flops(device, precision)
    return Usage(
        precision=precision,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        processes=processes,
        utilization=rate / (peak.flops * processes),
        peak_flops=peak.flops,
        peak_flops_source=peak.source,
        peak_memory_bytes=peak_memory(device),
    )


def peak_flops(device: torch.device, precision: str) -> Peak:
    """From the data sheet where the device is known, else the best matrix product of a third of a second."""
    if device.type == "cuda" and precision == "bfloat16":
        name = torch.cuda.get_device_name(device)
        for part, flops in _DATA_SHEET:
            if part in name:
                return Peak(flops, f"data sheet of {part}, dense bfloat16")
    return Peak(_measure(device, precision), f"best matrix product in {precision}, measured")


def _measure(device: torch.device, precision: str) -> float:
    size = 8192 if device.type == "cuda" else 1536
    a = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    best, started = 0.0, time.perf_counter()
    while time.perf_counter() - started < _MEASURED_SECONDS:
        before = time.perf_counter()
        linear(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - before))
    return best


class Work:
    """Useful floating-point operations of forward and backward passes; padding and recomputation do not count.

    Two operations per weight and token forward, two for the gradient of the inputs of every layer above the lowest
    trained one, two for the gradient of every trained weight; attention likewise per pair of tokens that see each
    other (Chowdhery et al. 2022, appendix B, without its assumption that all pairs count).
    """

    def __init__(self, model: nn.Module, skipped_layers: int) -> None:
        inner = scoring_module(model)
        layers = decoder_layers(inner)
        sizes = [_matrix_weights(layer, trained=False) for layer in layers]
        trained = [_matrix_weights(layer, trained=True) for layer in layers]
        lowest = next((number for number, count in enumerate(trained) if count), len(layers))
        run = range(skipped_layers, len(layers))
        self.per_token = 2 * (sum(sizes[i] for i in run) + sum(sizes[lowest:]) + sum(trained))
        self.skipped_per_token = 2 * sum(sizes[:skipped_layers])
        """Of the forward pass through the layers that are computed once."""
        width = int(getattr(inner.config, "head_dim", None) or inner.config.hidden_size // _heads(inner.config))
        # Products and sums of values: four operations per pair and width; twice that again backward.
        self.per_pair = 4 * width * _heads(inner.config) * (len(run) + 2 * (len(layers) - lowest))

    def of(self, blocks: Sequence[Block], tokens: int) -> float:
        """Operations of one step over ``blocks`` of ``tokens`` tokens."""
        return self.per_token * tokens + self.per_pair * sum(map(_seen_pairs, blocks))


def _heads(config: object) -> int:
    return int(config.num_attention_heads)  # type: ignore[attr-defined]


def _matrix_weights(layer: nn.Module, *, trained: bool) -> int:
    return sum(value.numel() for value in layer.parameters() if value.ndim > 1 and (value.requires_grad or not trained))


def _seen_pairs(block: Block) -> int:
    prompt = len(block.prompt)
    return prompt * (prompt + 1) // 2 + sum(
        len(response) * prompt + len(response) * (len(response) + 1) // 2 for response in block.responses
    )


def keep_freed_memory() -> None:
    """Let this process keep the large blocks that it frees, where the C library is glibc.

    Every step frees and takes the same gradients and activations. By default glibc returns such blocks to the system,
    which then hands them out page by page again: a third of a second per step for 56 million weights.
    """
    if sys.platform != "linux":
        return
    change = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if change is not None:
        change(_M_MMAP_MAX, 0)
        change(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory(device: torch.device) -> int:
    """Bytes at most: allocated on the accelerator, else resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_rss_bytes()
