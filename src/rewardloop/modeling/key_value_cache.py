"""A key-value cache that has room for the next tokens, so that a step writes its own and copies nothing.

transformers' dynamic cache puts together all keys and values anew for every token. Where a layer keeps them in another
way (sliding windows), its own cache is left as it is.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Tokens that a layer makes room for at a time."""


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """``keys`` and ``values`` are views of the filled part of tensors that are longer."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind the others; all of them, shape (rows, heads, tokens, width) each."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled, length = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
        if self._room is None or length > self._room[0].shape[-2]:
            self._room = (self._more(self.keys, key_states, length), self._more(self.values, value_states, length))
        self.keys, self.values = (room[..., :length, :] for room in self._room)
        self.keys[..., filled:, :] = key_states
        self.values[..., filled:, :] = value_states
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._room = None

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None

    @staticmethod
    def _more(old: Tensor, added: Tensor, length: int) -> Tensor:
        room = torch.empty((*added.shape[:-2], length + _ROOM, added.shape[-1]), dtype=added.dtype, device=added.device)
        if old.numel():
            room[..., : old.shape[-2], :] = old
        return room


def growing_cache(config: Any) -> DynamicCache:
    """The model's dynamic cache, with room in every layer that keeps all tokens."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
