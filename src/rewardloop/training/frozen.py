"""Frozen lower layers: what they give is computed once and kept, and later steps begin above them.

In: a model whose lowest layers do not train, and groups. Out: the hidden states that enter the first trained layer, one
tensor of (tokens, hidden size) per group, and a model whose lower layers pass them on. Groups are computed in one fixed
arrangement, so that a resumed training gets the same bits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rewardloop.modeling.reward_model import scoring_module
from rewardloop.modeling.scoring import Reading, decoder_layers, read_packed
from rewardloop.modeling.scoring.packing import PackedRow
from rewardloop.training.collation import Group, collate

_TOKENS = 1024


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
    """The layers below the first one that trains."""

    def __init__(self, model: Any) -> None:
        self.model = scoring_module(model)
        self.layers = decoder_layers(self.model)
        inside = {id(value) for layer in self.layers for value in layer.parameters()}
        head = {id(value) for value in self.model.score.parameters()}
        embeddings = [
            value
            for module in self.model.base_model.modules()
            if isinstance(module, nn.Embedding)
            for value in module.parameters()
        ]
        trained = [
            number
            for number, layer in enumerate(self.layers)
            if any(value.requires_grad for value in layer.parameters())
        ]
        below = any(value.requires_grad for value in embeddings if id(value) not in inside | head)
        self.count = 0 if below or not trained else trained[0]
        """How many layers are frozen from below."""
        self._gives_tuple = False

    def bytes_needed(self, groups: Sequence[Group], reading: Reading) -> int:
        """Memory for the hidden states of ``groups``, in float32."""
        return 4 * int(self.model.config.hidden_size) * sum(group.size(reading) for group in groups)

    def compute(
        self,
        groups: Sequence[Group],
        reading: Reading,
        device: torch.device,
        autocast: Callable[[], Any],
    ) -> dict[int, Tensor]:
        """Hidden states by position of the group in ``groups``, each of shape (tokens, hidden size), on the CPU."""
        result: dict[int, Tensor] = {}
        row: list[int] = []
        filled = 0
        for place, group in enumerate(groups):
            size = group.size(reading)
            if row and filled + size > _TOKENS:
                self._compute_row(row, groups, reading, device, autocast, result)
                row, filled = [], 0
            row.append(place)
            filled += size
        self._compute_row(row, groups, reading, device, autocast, result)
        return result

    @contextmanager
    def skipped(self) -> Iterator["FrozenLayers"]:
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

    def _replace(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._next[None], *args[1:])

    @torch.no_grad()
    def _compute_row(
        self,
        places: Sequence[int],
        groups: Sequence[Group],
        reading: Reading,
        device: torch.device,
        autocast: Callable[[], Any],
        result: dict[int, Tensor],
    ) -> None:
        batch = collate([groups[place] for place in places], reading, 0)
        assert isinstance(batch.rows, PackedRow)
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
            with autocast():
                read_packed(self.model, batch.rows.to(device), reading)
        except _Reached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        start = 0
        for place in places:
            size = groups[place].size(reading)
            result[place] = reached[0][0, start : start + size].float().cpu()
            start += size
