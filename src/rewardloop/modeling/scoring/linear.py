"""Linear layers that compute in float32 with oneDNN on a CPU: PyTorch asks MKL, which takes twice as long on AMD's.

In: a loaded model. Out: the same model, whose linear layers choose for themselves; weights, names and results (but for
the order of sums) stay as they are. bfloat16, other devices and builds without oneDNN go PyTorch's own way.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear`` without gradients, by whatever is faster here.

    Args:
        x: shape (..., in).
        weight: shape (out, in); may be a transposed view.
        bias: shape (out,).
    """
    if not _fits(x, weight):
        return torch.nn.functional.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def speed_up_linear_layers(model: Any) -> Any:
    """Let the linear layers of ``model`` choose how to compute; returns ``model``."""
    if _has_onednn():
        for layer in model.modules():
            if type(layer) is torch.nn.Linear:
                layer.__class__ = _Linear
    return model


class _Linear(torch.nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not _fits(input, self.weight):
            return super().forward(input)
        if torch.is_grad_enabled():
            result: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return result
        return linear(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
        return linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = linear(slope, weight.t()) if weight is not None else None
        rows = slope.flatten(0, -2)
        of_weight = linear(rows.t(), x.flatten(0, -2).t()) if x is not None else None
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and x.numel() > 0
        and _has_onednn()
    )


@cache
def _has_onednn() -> bool:
    """Whether this build has the operator and it gives what it should."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, weight = torch.arange(6.0).reshape(2, 3), torch.arange(12.0).reshape(4, 3)
    try:
        found = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return bool(torch.allclose(found, x @ weight.t()))
