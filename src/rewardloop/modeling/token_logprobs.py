"""Log-probabilities of tokens without keeping the logits of a whole batch.

In: hidden states and the tokens that followed. Out: log-probabilities and entropies, float32. Logits of a few hundred
tokens at a time exist; where the head is frozen, the gradient towards the hidden states is made in the same pass, so
that nothing of the vocabulary's size is kept or computed twice.

Shapes: W tokens, H hidden size, V tokens of the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rewardloop.modeling.scoring import linear

_CHUNK = 256
"""Tokens whose logits exist at a time: 50 MB for a vocabulary of 49,152."""


def logits_of(causal: Any, hidden_WH: Tensor) -> Tensor:
    """Logits as the model itself makes them, float32 of shape (W, V)."""
    logits: Tensor = causal.get_output_embeddings()(hidden_WH).float()
    scaling = getattr(causal.config, "logits_scaling", None)  # Granite
    if scaling:
        logits = logits / scaling
    cap = getattr(causal.config, "final_logit_softcapping", None)  # Gemma 2
    return torch.tanh(logits / cap) * cap if cap else logits


def token_logprobs(causal: Any, hidden_WH: Tensor, token_W: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probabilities, entropies) at ``temperature``, float32 of shape (W,) each; entropies carry no gradient.

    Args:
        causal: a causal language model.
        hidden_WH: what its trunk gives for the token before each of ``token_W``.
        token_W: the tokens.
        temperature: that the tokens were sampled at.
    """
    head = causal.get_output_embeddings()
    plain = not getattr(causal.config, "logits_scaling", None) and not getattr(
        causal.config, "final_logit_softcapping", None
    )
    if torch.is_grad_enabled() and plain and isinstance(head, torch.nn.Linear) and not _trains(head):
        result: tuple[Tensor, Tensor] = _FrozenHead.apply(  # type: ignore[no-untyped-call]
            hidden_WH, head.weight, head.bias, token_W, temperature, torch.is_autocast_enabled(hidden_WH.device.type)
        )
        return result

    def part(hidden: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        logp_LV = (logits_of(causal, hidden) / temperature).log_softmax(-1)
        entropy = -(logp_LV.exp() * logp_LV).sum(-1)
        return logp_LV.gather(1, token[:, None])[:, 0], entropy.detach()

    parts = []
    for hidden, token in zip(torch.split(hidden_WH, _CHUNK), torch.split(token_W, _CHUNK), strict=True):
        if torch.is_grad_enabled():
            parts.append(checkpoint(part, hidden, token, use_reentrant=False))
        else:
            parts.append(part(hidden, token))
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def _trains(head: torch.nn.Module) -> bool:
    return any(value.requires_grad for value in head.parameters())


class _FrozenHead(torch.autograd.Function):
    """d log p(token) / d hidden = (w[token] - sum_v p(v) w[v]) / temperature, summed chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_WH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        token_W: Tensor,
        temperature: float,
        rounded: bool,
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.bfloat16 if rounded else weight_VH.dtype
        weight = weight_VH.to(dtype)
        logprobs, entropies, slopes = [], [], []
        with torch.autocast(hidden_WH.device.type, enabled=False):
            for hidden, token in zip(torch.split(hidden_WH, _CHUNK), torch.split(token_W, _CHUNK), strict=True):
                bias = None if bias_V is None else bias_V.to(dtype)
                logits = linear(hidden.to(dtype), weight, bias).float() / temperature
                logp_LV = logits.log_softmax(-1)
                p_LV = logp_LV.exp()
                entropies.append(-(p_LV * logp_LV).sum(-1))
                logprobs.append(logp_LV.gather(1, token[:, None])[:, 0])
                if ctx.needs_input_grad[0]:
                    slopes.append((weight[token].float() - linear(p_LV.to(dtype), weight.t()).float()) / temperature)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
        ctx.dtype = hidden_WH.dtype
        entropy = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy)
        return torch.cat(logprobs), entropy

    @staticmethod
    def backward(ctx: Any, grad_W: Tensor, grad_entropy: Tensor | None) -> Any:
        (slope_WH,) = ctx.saved_tensors
        return (grad_W[:, None] * slope_WH).to(ctx.dtype), None, None, None, None, None
