"""Frozen lower layers: what they give can be computed once and kept, and later readings begin above them.

In: a decoder whose lowest layers do not train, and packed rows. Out: the hidden states that enter the first trained
layer, and a model whose lower layers pass them on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from rewardloop.modeling.scoring import PackedRow, Reading, decoder_layers, read_hidden


class _Reached(Exception):  # noqa: N818  it ends a forward pass early and is no error
    """The first trained layer was about to begin."""


class _Skipped(nn.Module):
    """Stands in for a frozen layer: gives its input back, in the form in which the layer gives its output."""

    def __init__(self, gives_tuple: bool) -> None:
        super().__init__()
        self.gives_tuple = gives_tuple

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        """The input."""
        return (hidden,) if self.gives_tuple else hidden


class FrozenLayers:
    """The layers below the first one that trains; ``model`` has its trunk in ``base_model``, without LoRA's wrapper."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = decoder_layers(model)
        inside = {id(value) for layer in self.layers for value in layer.parameters()}
        embeddings = [
            value
            for module in model.base_model.modules()
            if isinstance(module, nn.Embedding)
            for value in module.parameters()
        ]
        trained = [
            number
            for number, layer in enumerate(self.layers)
            if any(value.requires_grad for value in layer.parameters())
        ]
        below = any(value.requires_grad for value in embeddings if id(value) not in inside)
        self.count = 0 if below or not trained else trained[0]
        """How many layers are frozen from below."""
        self._gives_tuple = False

    @contextmanager
    def skipped(self) -> Iterator[Self]:
        """Run the model without its frozen layers, on hidden states given to ``begin_with``."""
        kept = list(self.layers[: self.count])
        for number in range(self.count):
            self.layers[number] = _Skipped(self._gives_tuple)
        hook = self.layers[self.count].register_forward_pre_hook(self._replace)
        try:
            yield self
        finally:
            hook.remove()
            for number, layer in enumerate(kept):
                self.layers[number] = layer

    def begin_with(self, hidden_T: Tensor) -> None:
        """Hidden states of the next row, shape (T, hidden size)."""
        self._next = hidden_T

    @torch.no_grad()
    def compute_row(self, row: PackedRow, reading: Reading) -> Tensor:
        """Hidden states that enter the first trained layer, shape (T, hidden size)."""
        reached: list[Tensor] = []

        def stop(module: nn.Module, args: tuple[Any, ...]) -> None:
            reached.append(args[0])
            raise _Reached

        def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._gives_tuple = isinstance(output, tuple)

        hooks = [
            self.layers[self.count].register_forward_pre_hook(stop),
            self.layers[0].register_forward_hook(look),
        ]
        try:
            read_hidden(self.model, row, reading, row.last_N)
        except _Reached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return reached[0][0]

    def _replace(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._next[None], *args[1:])
