"""How a policy is made ready to learn, and in which precision it computes."""

import torch

from rewardloop.config import AlignSettings
from rewardloop.modeling.policy import Policy, with_adapters
from rewardloop.training.hardware import choose_precision


def rounds_policy(settings: AlignSettings, device: torch.device) -> bool:
    """Whether the frozen linear layers hold bfloat16; weights that train are always float32."""
    return settings.method == "lora" and choose_precision(settings.precision, device) == "bfloat16"


def trainable(start: Policy, settings: AlignSettings) -> Policy:
    """The start with adapters, or with all weights training."""
    if settings.method == "lora":
        return with_adapters(start, settings)
    start.model.requires_grad_(True)
    return start
