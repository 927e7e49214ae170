"""The last layer is computed only where scores are read.

In: a model whose rows are read at few tokens. Out: the same scores for less: nothing looks at what the last layer's
feed-forward part (three quarters of its work) gives for the other tokens, so it is not computed for them. Above frozen
layers that were computed once, the last layer is a large share of a training.
"""

from typing import Any

import torch
from torch import Tensor, nn

_FEED_FORWARD = ("mlp", "feed_forward")
_OUTPUT = ("o_proj",)
_ATTRIBUTE = "rewardloop_last_layer"


def decoder_layers(model: Any) -> nn.ModuleList:
    """The transformer layers of a sequence-classification model, from below."""
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


class LastLayer:
    """Hooks around the position-wise parts of the last layer; while ``wanted`` is None they do nothing."""

    def __init__(self, layer: nn.Module) -> None:
        self.wanted: Tensor | None = None
        """Indices in the row, shape (N,)."""
        self._length = 0
        self._checkpointed = layer
        for name, module in layer.named_modules():
            if name in _FEED_FORWARD or name.rpartition(".")[2] in _OUTPUT:
                # Bound methods, so that a deep copy of the model gets hooks of its own.
                module.register_forward_pre_hook(self._narrow)
                module.register_forward_hook(self._widen)

    @classmethod
    def of(cls, model: Any) -> "LastLayer":
        """The one of ``model``, made at the first call."""
        if not hasattr(model, _ATTRIBUTE):
            setattr(model, _ATTRIBUTE, cls(decoder_layers(model)[-1]))
        found: LastLayer = getattr(model, _ATTRIBUTE)
        return found

    def read_at(self, wanted_N: Tensor | None) -> None:
        """Compute the next forward pass for these tokens of the row only; None: for all."""
        layer = self._checkpointed
        # Checkpointing computes the layer a second time, when ``wanted`` may be another's.
        again = layer.training and bool(getattr(layer, "gradient_checkpointing", False))
        self.wanted = None if again else wanted_N

    def _narrow(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.wanted is None:
            return None
        self._length = args[0].shape[1]
        return (args[0].index_select(1, self.wanted), *args[1:])

    def _widen(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self.wanted is None:
            return None
        whole = torch.zeros((1, self._length, output.shape[2]), dtype=output.dtype, device=output.device)
        return whole.index_copy(1, self.wanted, output)
