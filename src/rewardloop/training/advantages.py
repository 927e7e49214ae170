"""From rewards of answers to advantages of tokens.

In: scores of whole answers, log-probabilities and values of their tokens. Out: per-token rewards, advantages, returns.
Answers are padded on the right to one length here; these tensors are small.

Shapes: B answers, T tokens of the longest.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Advantages(NamedTuple):
    """Both of shape (B, T), 0 behind the end of an answer."""

    advantage_BT: Tensor
    return_BT: Tensor


def token_rewards(score_B: Tensor, logp_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor, beta: float) -> Tensor:
    """-beta * (log pi - log ref) for each token, and the answer's score added at its last one; shape (B, T).

    The penalty is the estimator k1, as in Ziegler et al. 2019, equation 2; k3 would be biased as a reward.
    """
    rewards_BT = -beta * (logp_BT - reference_BT) * mask_BT
    last_B = mask_BT.sum(1).long() - 1
    return rewards_BT.index_put((torch.arange(len(last_B)), last_B), score_B, accumulate=True)


def generalized_advantages(
    reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, gamma: float, gae_lambda: float
) -> Advantages:
    """Generalized advantage estimation (Schulman et al. 2016, equation 16); an answer's end is worth 0.

    A_t = sum_l (gamma lambda)^l delta_{t+l} with delta_t = r_t + gamma V_{t+1} - V_t, computed as one matrix product.
    """
    value_BT = value_BT * mask_BT
    following_BT = torch.nn.functional.pad(value_BT[:, 1:], (0, 1))
    delta_BT = (reward_BT + gamma * following_BT - value_BT) * mask_BT
    steps = torch.arange(reward_BT.shape[1])
    apart_TT = (steps[:, None] - steps[None, :]).clamp(min=0)
    weight_TT = torch.tril((gamma * gae_lambda) ** apart_TT.to(delta_BT.dtype))  # [later, earlier]
    advantage_BT = delta_BT @ weight_TT * mask_BT
    return Advantages(advantage_BT, advantage_BT + value_BT)


def whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the tokens of all answers; equal values become 0."""
    count = mask_BT.sum()
    mean = (values_BT * mask_BT).sum() / count
    variance = ((values_BT - mean).square() * mask_BT).sum() / count
    return (values_BT - mean) * torch.rsqrt(variance + 1e-8) * mask_BT


def explained_variance(value_BT: Tensor, return_BT: Tensor, mask_BT: Tensor) -> float:
    """1 - Var(return - value) / Var(return) over all tokens; 0 where returns do not vary."""
    returns, values = return_BT[mask_BT.bool()], value_BT[mask_BT.bool()]
    variance = returns.var(correction=0)
    if not variance > 0:
        return 0.0
    return float(1 - (returns - values).var(correction=0) / variance)
