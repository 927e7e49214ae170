"""The losses of proximal policy optimization and the estimators of its KL, as pure functions of tensors.

In: log-probabilities, values, advantages and returns of tokens, all of one shape. Out: losses per token, so that the
caller decides over what they are averaged, and what is logged of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenLoss(NamedTuple):
    """``loss`` per token; ``clipped``: 1 where the clip decides, 0 elsewhere."""

    loss: Tensor
    clipped: Tensor


def policy_loss(logp: Tensor, old_logp: Tensor, advantage: Tensor, clip_range: float) -> TokenLoss:
    """max(-A r, -A clip(r, 1 - c, 1 + c)) with r = exp(log pi - log pi_old) (Schulman et al. 2017, equation 7)."""
    ratio = torch.exp(logp - old_logp)
    free = -advantage * ratio
    held = -advantage * ratio.clamp(1 - clip_range, 1 + clip_range)
    return TokenLoss(torch.maximum(free, held), (held > free).float())


def value_loss(value: Tensor, old_value: Tensor, returns: Tensor, clip_range: float) -> TokenLoss:
    """Half of max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2), as in OpenAI's baselines (Huang et al. 2022)."""
    held = torch.minimum(torch.maximum(value, old_value - clip_range), old_value + clip_range)
    free_square, held_square = (value - returns).square(), (held - returns).square()
    return TokenLoss(0.5 * torch.maximum(free_square, held_square), (held_square > free_square).float())


def kl_k1(logp: Tensor, reference: Tensor) -> Tensor:
    """log pi - log ref of a token that pi sampled: unbiased, and negative for some tokens."""
    return logp - reference


def kl_k3(logp: Tensor, reference: Tensor) -> Tensor:
    """exp(d) - 1 - d with d = log ref - log pi: unbiased too, never negative, varies less (Schulman 2020)."""
    difference = reference - logp
    return torch.expm1(difference) - difference
