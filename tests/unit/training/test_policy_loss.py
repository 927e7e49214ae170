"""The losses of proximal policy optimization: values by hand on both sides of the clip, gradients by differences."""

import math

import pytest
import torch
from torch import Tensor

from rewardloop.training.policy_loss import kl_k1, kl_k3, policy_loss, value_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0.0),
        (1.1, 2.0, -2.2, 0.0),
        (1.5, 2.0, -2.4, 1.0),  # good already, and more likely by more than 20%: nothing to win any more
        (1.5, -2.0, 3.0, 0.0),  # bad and more likely: pushed back without limit
        (0.5, 2.0, -1.0, 0.0),
        (0.5, -2.0, 1.6, 1.0),
        (0.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_loss_worked_by_hand(ratio: float, advantage: float, loss: float, clipped: float) -> None:
    old = torch.tensor([-1.7])
    found = policy_loss(old + math.log(ratio), old, torch.tensor([advantage]), 0.2)
    assert float(found.loss) == pytest.approx(loss, abs=1e-6)
    assert float(found.clipped) == clipped


def test_gradient_of_the_clipped_loss_by_finite_differences() -> None:
    old = torch.tensor([-1.0, -2.0, -0.5, -3.0, -1.0], dtype=torch.float64)
    ratio = torch.tensor([1.1, 1.5, 1.5, 0.5, 0.5], dtype=torch.float64)
    advantage = torch.tensor([0.7, 1.3, -0.4, 2.0, -1.0], dtype=torch.float64)
    logp = (old + ratio.log()).requires_grad_()

    def total(values: Tensor) -> Tensor:
        return policy_loss(values, old, advantage, 0.2).loss.sum()

    total(logp).backward()
    step = 1e-6
    differences = [
        float(total(logp.detach() + step * unit) - total(logp.detach() - step * unit)) / (2 * step)
        for unit in torch.eye(5, dtype=torch.float64)
    ]
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, torch.tensor(differences, dtype=torch.float64), atol=1e-7, rtol=1e-7)
    # Held on the side where nothing is to be won; -A r elsewhere.
    torch.testing.assert_close(logp.grad, torch.tensor([-0.77, 0.0, 0.6, -1.0, 0.0], dtype=torch.float64))


def test_value_loss_takes_the_worse_of_both() -> None:
    value = torch.tensor([1.0, 0.9, 0.6, 0.0], requires_grad=True)
    found = value_loss(value, torch.full((4,), 0.5), torch.tensor([2.0, 0.0, 1.0, 2.0]), 0.2)
    # Held at 0.7: (0.7 - 2)^2 > (1 - 2)^2. Held at 0.7, but 0.9 is further from 0. Inside. Held at 0.3: free is worse.
    torch.testing.assert_close(found.loss, torch.tensor([0.845, 0.405, 0.08, 2.0]))
    assert found.clipped.tolist() == [1.0, 0.0, 0.0, 0.0]
    found.loss.sum().backward()
    torch.testing.assert_close(value.grad, torch.tensor([0.0, 0.9, -0.4, -2.0]))


def test_both_estimators_of_the_kl_are_unbiased_and_one_is_never_negative() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 7, dtype=torch.float64).softmax(-1)
    exact = float((p * (p / q).log()).sum())
    k1, k3 = kl_k1(p.log(), q.log()), kl_k3(p.log(), q.log())
    assert float((p * k1).sum()) == pytest.approx(exact, rel=1e-12)
    assert float((p * k3).sum()) == pytest.approx(exact, rel=1e-12)
    assert k1.min() < 0
    assert k3.min() >= 0
    # k1 = 1: exp(-1) - 1 + 1.
    assert float(kl_k3(torch.tensor(-1.0), torch.tensor(-2.0))) == pytest.approx(math.exp(-1))
    assert float(kl_k3(torch.tensor(-1.0), torch.tensor(-1.0))) == 0.0
