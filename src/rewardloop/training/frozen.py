"""Frozen lower layers of a reward model: what they give for the training's groups is computed once and kept.

In: a model whose lowest layers do not train, and groups. Out: the hidden states that enter the first trained layer, one
tensor of (tokens, hidden size) per group. Groups are computed in one fixed arrangement, so that a resumed training gets
the same bits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rewardloop.modeling import frozen
from rewardloop.modeling.reward_model import scoring_module
from rewardloop.modeling.scoring import Reading
from rewardloop.modeling.scoring.packing import PackedRow
from rewardloop.training.collation import Group, collate

_TOKENS = 1024


class FrozenGroups(frozen.FrozenLayers):
    """The layers below the first one that trains, and their results by group."""

    def __init__(self, model: Any) -> None:
        super().__init__(scoring_module(model))

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
                self._compute_groups(row, groups, reading, device, autocast, result)
                row, filled = [], 0
            row.append(place)
            filled += size
        self._compute_groups(row, groups, reading, device, autocast, result)
        return result

    def _compute_groups(
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
        with autocast():
            hidden_T = self.compute_row(batch.rows.to(device), reading)
        start = 0
        for place in places:
            size = groups[place].size(reading)
            result[place] = hidden_T[start : start + size].float().cpu()
            start += size
