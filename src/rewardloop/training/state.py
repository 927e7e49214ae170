"""Weights and optimizer of a training, whole, whatever processes hold parts of them.

In: a model as ``accelerate`` prepared it (alone, replicated, or sharded). Out: plain tensors on the CPU of the first
process, and the way back. Frozen weights are not part of it: they come from the base.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

Weights = dict[str, Tensor]


def trained_weights(model: Any) -> Weights:
    """The trained weights by name, copied to the CPU; empty on all processes but the first."""
    found: dict[str, Any] = get_model_state_dict(model, options=_options())
    return {name: value.detach().cpu().clone() for name, value in found.items()}


def set_trained_weights(model: Any, weights: Weights) -> None:
    """Put ``weights`` (of the first process) into the model of every process."""
    set_model_state_dict(model, dict(weights), options=_options(loading=True))


def optimizer_state(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state by name of the weight; empty on all processes but the first."""
    return dict(get_optimizer_state_dict(model, optimizer, options=_options()))


def set_optimizer_state(model: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put ``state`` (of the first process) into the optimizer of every process."""
    set_optimizer_state_dict(model, optimizer, state, options=_options(loading=True))


def _options(*, loading: bool = False) -> StateDictOptions:
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    return StateDictOptions(
        full_state_dict=True,
        cpu_offload=True,
        ignore_frozen_params=True,
        broadcast_from_rank0=loading and spread,
        strict=not loading,
    )
