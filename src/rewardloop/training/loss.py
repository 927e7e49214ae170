"""The loss of a reward model on ranked groups, with soft labels.

Shapes: N scores (responses) of G groups, P compared pairs. The loss knows neither padding nor packing: scores come
flat, pairs name them by position, so any collation that can list its scores can use it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


class Pairs(NamedTuple):
    """The compared pairs of a batch; ties have p = 0.5, pairs without evidence are absent."""

    a_P: Tensor
    """int64: position of the first response among the N scores."""
    b_P: Tensor
    """int64: position of the second one."""
    p_P: Tensor
    """float: probability that the first is better."""
    group_P: Tensor
    """int64: group of the pair, 0 to G - 1."""
    margin_P: Tensor | None = None
    """float: how much better the first must score; antisymmetric, 0 at ties."""
    weight_P: Tensor | None = None
    """float: weight of the pair inside its group."""

    def to(self, device: torch.device) -> "Pairs":
        """The same pairs on ``device``."""
        return Pairs(*(None if value is None else value.to(device) for value in self))  # type: ignore[arg-type]


class GroupLoss(NamedTuple):
    """Per group, so that accumulation over micro-batches can divide by the groups of the whole step."""

    loss_G: Tensor
    accuracy_G: Tensor
    """Share of the group's decided pairs in the right order; NaN where every pair is a tie."""


def group_loss(scores_N: Tensor, pairs: Pairs, group_N: Tensor, groups: int, *, centering: float) -> GroupLoss:
    """Mean over a group's pairs of BCE(sigmoid(s_a - s_b - m), p), plus ``centering`` * (mean s)^2.

    With K = 2 and p in {0, 1} this is the Bradley-Terry loss of InstructGPT (Ouyang et al. 2022, equation 1); the
    centering term is Eisenstein et al. 2023, equation 2, whose coefficient is a quarter of ours at K = 2.

    Args:
        scores_N: scores of all responses of the batch.
        pairs: the compared pairs.
        group_N: int64, group of each response.
        groups: G.
        centering: weight of the squared mean score of each group.
    """
    difference_P = scores_N[pairs.a_P] - scores_N[pairs.b_P]
    logits_P = difference_P if pairs.margin_P is None else difference_P - pairs.margin_P
    loss_P = binary_cross_entropy_with_logits(logits_P, pairs.p_P, reduction="none")
    weight_P = torch.ones_like(loss_P) if pairs.weight_P is None else pairs.weight_P
    loss_G = _mean_by_group(loss_P, weight_P, pairs.group_P, groups)
    mean_G = _mean_by_group(scores_N, torch.ones_like(scores_N), group_N, groups)
    with torch.no_grad():
        decided_P = (pairs.p_P != 0.5).to(loss_P)
        right_P = ((difference_P > 0) == (pairs.p_P > 0.5)).to(loss_P)
        right_P[difference_P == 0] = 0.5
        accuracy_G = _mean_by_group(right_P, decided_P, pairs.group_P, groups)
    return GroupLoss(loss_G + centering * mean_G**2, accuracy_G)


def _mean_by_group(values: Tensor, weights: Tensor, group: Tensor, groups: int) -> Tensor:
    total = values.new_zeros(groups).index_add(0, group, values * weights)
    return total / values.new_zeros(groups).index_add(0, group, weights)
