"""The loss of a reward model on ranked groups, with soft labels, and the objectives that vary it.

Shapes: N scores (responses) of G groups, P compared pairs. The loss knows neither padding nor packing: scores come
flat, pairs name them by position, so any collation that can list its scores can use it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rewardloop.config import TrainingSettings


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
    votes_P: Tensor
    """float: comparisons behind p."""
    gap_P: Tensor
    """float: rating of the first minus rating of the second; NaN where they were not rated."""
    weight_P: Tensor | None = None
    """float: what the pair counts by the age of its labels; None: 1 each."""

    def to(self, device: torch.device) -> "Pairs":
        """The same pairs on ``device``."""
        return Pairs(
            self.a_P.to(device),
            self.b_P.to(device),
            self.p_P.to(device),
            self.group_P.to(device),
            self.votes_P.to(device),
            self.gap_P.to(device),
            None if self.weight_P is None else self.weight_P.to(device),
        )


class Objective(NamedTuple):
    """What the pairs are trained towards; the defaults are Bradley-Terry on the labelers' shares."""

    centering: float = 0.0
    margin: str = "none"
    margin_scale: float = 1.0
    label_smoothing: float = 0.0
    mean_votes: float | None = None
    """Set to weigh pairs by their votes: the mean over the training split, so that weights average 1."""
    mean_weight: float = 1.0
    """Mean weight by age over the training split, so that old labels do not shrink every step."""

    @classmethod
    def of(cls, settings: TrainingSettings, mean_votes: float, mean_weight: float = 1.0) -> "Objective":
        """The objective of a configuration."""
        return cls(
            centering=settings.centering,
            margin=settings.margin,
            margin_scale=settings.margin_scale,
            label_smoothing=settings.label_smoothing,
            mean_votes=mean_votes if settings.weight_by_votes else None,
            mean_weight=mean_weight,
        )


class GroupLoss(NamedTuple):
    """Per group, so that accumulation over micro-batches can divide by the groups of the whole step."""

    loss_G: Tensor
    accuracy_G: Tensor
    """Share of the group's decided pairs in the right order; NaN where every pair is a tie."""
    margin_G: Tensor
    """Mean of better minus worse score over the decided pairs; NaN where every pair is a tie."""


def smoothed(p_P: Tensor, amount: float) -> Tensor:
    """Labels moved towards one half: p (1 - amount) + amount / 2 (Szegedy et al. 2016, section 7, two classes)."""
    return p_P * (1 - amount) + amount / 2


def preference_margin(p_P: Tensor, scale: float) -> Tensor:
    """A margin that grows with the labelers' agreement: scale (2p - 1).

    Antisymmetric and 0 at ties; Touvron et al. 2023 (Llama 2, section 3.2.2) grade theirs by how sure a labeler is.
    """
    return scale * (2 * p_P - 1)


def rating_margin(gap_P: Tensor, scale: float) -> Tensor:
    """A margin that grows with the difference of the mean ratings: scale * gap; 0 where nothing was rated.

    As the ``margin`` column of TRL's RewardTrainer.
    """
    return scale * torch.nan_to_num(gap_P, nan=0.0)


def vote_weights(votes_P: Tensor, mean_votes: float) -> Tensor:
    """Weights proportional to the votes: the variance of a share of votes falls with their number."""
    return votes_P / mean_votes


def centering(scores_N: Tensor, group_N: Tensor, groups: int) -> Tensor:
    """Squared mean score of each group, shape (G,): keeps scores near 0.

    Eisenstein et al. 2023, equation 2, whose coefficient is a quarter of ours at K = 2.
    """
    return _mean_by_group(scores_N, torch.ones_like(scores_N), group_N, groups) ** 2


def group_loss(scores_N: Tensor, pairs: Pairs, group_N: Tensor, groups: int, objective: Objective) -> GroupLoss:
    """Mean over a group's pairs of BCE(sigmoid(s_a - s_b - m), p), plus the centering term.

    With K = 2 and p in {0, 1} this is the Bradley-Terry loss of InstructGPT (Ouyang et al. 2022, equation 1).

    Args:
        scores_N: scores of all responses of the batch.
        pairs: the compared pairs.
        group_N: int64, group of each response.
        groups: G.
        objective: margins, smoothing, weights, centering.
    """
    difference_P = scores_N[pairs.a_P] - scores_N[pairs.b_P]
    logits_P = difference_P
    if objective.margin == "preference":
        logits_P = difference_P - preference_margin(pairs.p_P, objective.margin_scale)
    elif objective.margin == "rating":
        logits_P = difference_P - rating_margin(pairs.gap_P, objective.margin_scale)
    labels_P = smoothed(pairs.p_P, objective.label_smoothing)
    loss_P = binary_cross_entropy_with_logits(logits_P, labels_P, reduction="none")
    if objective.mean_votes is not None:
        # Over all pairs the weights average 1; inside a group they need not, or votes would not count at K = 2.
        loss_P = loss_P * vote_weights(pairs.votes_P, objective.mean_votes)
    if pairs.weight_P is not None:
        loss_P = loss_P * (pairs.weight_P / objective.mean_weight)
    loss_G = _mean_by_group(loss_P, torch.ones_like(loss_P), pairs.group_P, groups)
    if objective.centering:
        loss_G = loss_G + objective.centering * centering(scores_N, group_N, groups)
    with torch.no_grad():
        decided_P = (pairs.p_P != 0.5).to(loss_P)
        right_P = ((difference_P > 0) == (pairs.p_P > 0.5)).to(loss_P)
        right_P[difference_P == 0] = 0.5
        margin_P = difference_P * torch.sign(pairs.p_P - 0.5)
        accuracy_G = _mean_by_group(right_P, decided_P, pairs.group_P, groups)
        margin_G = _mean_by_group(margin_P, decided_P, pairs.group_P, groups)
    return GroupLoss(loss_G, accuracy_G, margin_G)


def _mean_by_group(values: Tensor, weights: Tensor, group: Tensor, groups: int) -> Tensor:
    total = values.new_zeros(groups).index_add(0, group, values * weights)
    return total / values.new_zeros(groups).index_add(0, group, weights)
