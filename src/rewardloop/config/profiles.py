"""What fits on which hardware: batch, precision and sharding, chosen together by the name of the GPU.

In: a profile's name. Out: settings that take the place of the defaults, never of what the configuration or ``--set``
says. The figures follow from the memory of the device (24, 40, 80, 141 GB) for bases of about 1 to 3 billion parameters
trained in full; a smaller base, or LoRA, leaves room, and both batches may be raised. A batch in tokens changes memory
and speed only.
"""

from collections.abc import Iterator
from typing import Any

from rewardloop.config.base import Section
from rewardloop.errors import BadInputError


class Profile(Section):
    """One kind of device."""

    tokens_per_batch: int
    """Tokens that training puts through the model at once."""
    scored_tokens_per_batch: int
    """The same where only scores are wanted: no gradients are kept."""
    precision: str
    sharding: str
    """Of several processes: each holds all weights (``ddp``), or they share them (``fsdp``)."""
    gradient_checkpointing: bool
    rows: int
    """Answers that a policy generates at once."""
    device: str


PROFILES = {
    "cpu": Profile(
        tokens_per_batch=3_072,
        scored_tokens_per_batch=3_072,
        precision="auto",
        sharding="ddp",
        gradient_checkpointing=False,
        rows=64,
        device="cpu",
    ),
    "a10g": Profile(
        tokens_per_batch=4_096,
        scored_tokens_per_batch=8_192,
        precision="bfloat16",
        sharding="fsdp",
        gradient_checkpointing=True,
        rows=64,
        device="cuda",
    ),
    "a100": Profile(
        tokens_per_batch=16_384,
        scored_tokens_per_batch=32_768,
        precision="bfloat16",
        sharding="fsdp",
        gradient_checkpointing=False,
        rows=256,
        device="cuda",
    ),
    "h100": Profile(
        tokens_per_batch=24_576,
        scored_tokens_per_batch=49_152,
        precision="bfloat16",
        sharding="ddp",
        gradient_checkpointing=False,
        rows=512,
        device="cuda",
    ),
    "h200": Profile(
        tokens_per_batch=32_768,
        scored_tokens_per_batch=65_536,
        precision="bfloat16",
        sharding="ddp",
        gradient_checkpointing=False,
        rows=1_024,
        device="cuda",
    ),
}


def profile_settings(name: str, *, aligns: bool) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that the profile sets.

    Args:
        name: one of ``PROFILES``.
        aligns: whether the configuration has the section ``align``; a profile does not bring alignment about.

    Raises:
        BadInputError: there is no such profile.
    """
    if name not in PROFILES:
        raise BadInputError(f"--profile {name!r}: expected one of {', '.join(PROFILES)}")
    profile = PROFILES[name]
    yield "training.tokens_per_batch", profile.tokens_per_batch
    yield "training.precision", profile.precision
    yield "training.sharding", profile.sharding
    yield "training.gradient_checkpointing", profile.gradient_checkpointing
    yield "evaluation.tokens_per_batch", profile.scored_tokens_per_batch
    if aligns:
        yield "align.tokens_per_batch", profile.tokens_per_batch
        yield "align.precision", profile.precision
        yield "align.device", profile.device
        yield "align.generation.rows", profile.rows
