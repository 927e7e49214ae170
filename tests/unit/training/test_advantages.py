"""Advantages: numbers worked by hand, and the matrix product equals the recursion."""

import pytest
import torch
from torch import Tensor

from rewardloop.training.advantages import explained_variance, generalized_advantages, token_rewards, whiten


def by_recursion(reward: Tensor, value: Tensor, mask: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """A_t = delta_t + gamma lambda A_{t+1}, answer by answer, from its end."""
    result = torch.zeros_like(reward)
    for row in range(len(reward)):
        following_value = following_advantage = 0.0
        for t in reversed(range(int(mask[row].sum()))):
            delta = float(reward[row, t]) + gamma * following_value - float(value[row, t])
            following_advantage = delta + gamma * gae_lambda * following_advantage
            following_value = float(value[row, t])
            result[row, t] = following_advantage
    return result


def test_advantages_worked_by_hand() -> None:
    reward = torch.tensor([[0.0, 0.0, 1.0], [0.3, 0.0, 0.0]])
    # What stands behind an answer's end must not matter.
    value = torch.tensor([[0.5, 0.4, 0.6], [0.1, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    found = generalized_advantages(reward, value, mask, 0.9, 0.5)
    # delta = 0.9 * 0.4 - 0.5, 0.9 * 0.6 - 0.4, 1 - 0.6 = -0.14, 0.14, 0.4; each A adds 0.45 of the next.
    torch.testing.assert_close(found.advantage_BT, torch.tensor([[0.004, 0.32, 0.4], [0.2, 0.0, 0.0]]))
    torch.testing.assert_close(found.return_BT, torch.tensor([[0.504, 0.72, 1.0], [0.3, 0.0, 0.0]]))


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_one_matrix_product_equals_the_recursion(gamma: float, gae_lambda: float) -> None:
    torch.manual_seed(0)
    lengths = [1, 7, 3, 12, 12]
    mask = torch.tensor([[1.0] * length + [0.0] * (12 - length) for length in lengths], dtype=torch.float64)
    reward, value = torch.randn(2, 5, 12, dtype=torch.float64)
    found = generalized_advantages(reward * mask, value, mask, gamma, gae_lambda)
    expected = by_recursion(reward, value, mask, gamma, gae_lambda)
    torch.testing.assert_close(found.advantage_BT, expected)
    torch.testing.assert_close(found.return_BT, expected + value * mask)


def test_without_discount_the_return_is_what_is_still_to_come() -> None:
    reward = torch.tensor([[1.0, 2.0, 4.0]])
    found = generalized_advantages(reward, torch.tensor([[5.0, -3.0, 0.5]]), torch.ones(1, 3), 1.0, 1.0)
    torch.testing.assert_close(found.return_BT, torch.tensor([[7.0, 6.0, 4.0]]))


def test_the_score_comes_with_the_last_real_token() -> None:
    logp = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, -7.0], [-1.0, -7.0, -7.0]])
    reference = torch.tensor([[-1.5, -2.0, -2.0], [-2.0, -1.0, -8.0], [-1.0, -8.0, -8.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    found = token_rewards(torch.tensor([2.0, -1.0, 0.5]), logp, reference, mask, 0.1)
    torch.testing.assert_close(found, torch.tensor([[-0.05, 0.0, 2.1], [-0.1, -1.0, 0.0], [0.5, 0.0, 0.0]]))


def test_whitened_values_have_mean_0_and_variance_1_over_real_tokens() -> None:
    found = whiten(torch.tensor([[1.0, 2.0], [3.0, 99.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    # Variance 2/3: 1 / sqrt(2/3) = 1.2247.
    torch.testing.assert_close(found, torch.tensor([[-1.2247449, 0.0], [1.2247449, 0.0]]))
    assert whiten(torch.full((2, 2), 5.0), torch.ones(2, 2)).abs().max() == 0


def test_explained_variance() -> None:
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    returns = torch.tensor([[1.0, 2.0, 3.0, 50.0]])
    assert explained_variance(returns + 4, returns, mask) == 1.0  # a constant error is no variance
    assert explained_variance(torch.full((1, 4), 2.0), returns, mask) == 0.0
    # Errors 2, 4, 6 have four times the variance.
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    # Errors 1, 2, 1 have variance 2/9 against 2/3.
    assert explained_variance(torch.tensor([[0.0, 0.0, 2.0, 0.0]]), returns, mask) == pytest.approx(2 / 3)
    assert explained_variance(returns, torch.full((1, 4), 7.0), mask) == 0.0
