"""Linear layers that choose how to compute: results and gradients of PyTorch's own, in every shape they meet."""

import copy

import pytest
import torch
from torch import nn

from rewardloop.modeling.scoring import linear, speed_up_linear_layers

ONEDNN = torch.backends.mkldnn.is_available()


def pair(*, bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    own = nn.Linear(24, 40, bias=bias)
    return own, speed_up_linear_layers(nn.Sequential(copy.deepcopy(own)))[0]


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 24), (3, 0, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_pytorchs(shape: tuple[int, ...], bias: bool) -> None:
    own, fast = pair(bias=bias)
    x = torch.randn(shape, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    expected, found = own(x), fast(y)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(expected)
    expected.backward(slope)
    found.backward(slope)
    torch.testing.assert_close(y.grad, x.grad)
    for one, other in zip(fast.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_what_does_not_train_gets_no_gradient() -> None:
    _, fast = pair()
    fast.requires_grad_(False)
    x = torch.randn(3, 24, requires_grad=True)
    fast(x).sum().backward()
    assert x.grad is not None
    assert fast.weight.grad is None


def test_gradients_by_finite_differences() -> None:
    own, fast = pair()
    x = torch.randn(4, 24)
    with torch.no_grad():
        direction, step = torch.randn_like(fast.weight), 1e-2
        plus, minus = (
            (torch.nn.functional.linear(x, fast.weight + sign * step * direction, fast.bias) ** 2).sum()
            for sign in (1, -1)
        )
    (fast(x) ** 2).sum().backward()
    assert fast.weight.grad is not None
    assert float((fast.weight.grad * direction).sum()) == pytest.approx(float(plus - minus) / (2 * step), rel=1e-3)
    assert own.weight.grad is None


def test_other_precisions_go_pytorchs_own_way() -> None:
    own, fast = pair()
    x = torch.randn(3, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x), own(x))
    assert torch.equal(fast.double()(x.double()), own.double()(x.double()))


def test_a_transposed_weight() -> None:
    x, weight = torch.randn(5, 24), torch.randn(24, 8)
    torch.testing.assert_close(linear(x, weight.t()), x @ weight)


def test_weights_keep_their_names_and_subclasses_their_own_way() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = nn.ModuleDict({"plain": nn.Linear(4, 4), "doubled": Doubled(4, 4)})
    names = list(model.state_dict())
    speed_up_linear_layers(model)
    assert list(model.state_dict()) == names
    assert type(model["doubled"]) is Doubled
    assert isinstance(model["plain"], nn.Linear)
    assert (type(model["plain"]) is not nn.Linear) == ONEDNN
