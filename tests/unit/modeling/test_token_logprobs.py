"""Log-probabilities in chunks: those of the model's own logits, and the gradients of the dense computation."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rewardloop.modeling import token_logprobs as module
from rewardloop.modeling.token_logprobs import logits_of, token_logprobs
from tests.bases import VOCABULARY
from tests.policies import causal_of

# The last caps its logits near 2, so that the cap matters.
KINDS = {
    "llama": {},
    "gptj": {},  # a head with a bias
    "gemma2": {"final_logit_softcapping": 2.0},
}
TEMPERATURE = 0.7


def head_of(name: str, *, trains: bool, dtype: torch.dtype = torch.float32) -> tuple[Any, Tensor, Tensor]:
    """(model whose head trains or not, hidden states, tokens)."""
    model = causal_of(name, **KINDS[name]).to(dtype)
    model.requires_grad_(trains)
    torch.manual_seed(1)
    hidden = torch.randn(23, model.config.hidden_size, dtype=dtype) * 0.5
    return model, hidden, torch.randint(0, VOCABULARY, (23,))


def dense(model: Any, hidden: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """All logits at once, written out anew."""
    logits = model.get_output_embeddings()(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap:
        logits = cap * torch.tanh(logits / cap)
    logp = torch.log_softmax(logits / TEMPERATURE, -1)
    return logp[torch.arange(len(token)), token], -(logp.exp() * logp).sum(-1)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("learning", [False, True])
def test_they_are_those_of_the_models_own_logits(name: str, learning: bool) -> None:
    model = causal_of(name, **KINDS[name])
    model.requires_grad_(False)
    ids = torch.randint(2, VOCABULARY, (1, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    hidden, token = out.hidden_states[-1][0, :-1], ids[0, 1:]
    torch.testing.assert_close(logits_of(model, hidden), out.logits[0, :-1])
    with torch.set_grad_enabled(learning):
        logp, entropy = token_logprobs(model, hidden, token, TEMPERATURE)
    distribution = torch.distributions.Categorical(logits=out.logits[0, :-1] / TEMPERATURE)
    torch.testing.assert_close(logp, distribution.log_prob(token))
    torch.testing.assert_close(entropy, distribution.entropy())
    # Untempered logits would be noticed.
    assert (logp - out.logits[0, :-1].log_softmax(-1)[torch.arange(29), token]).abs().max() > 0.1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("chunk", [256, 5])
def test_gradients_are_those_of_the_dense_computation(
    name: str, trains: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    model, start, token = head_of(name, trains=trains)
    weight = torch.randn(len(token), generator=torch.Generator().manual_seed(2))
    results = []
    for compute in (dense, lambda *args: token_logprobs(*args, TEMPERATURE)):
        hidden = start.clone().requires_grad_()
        logp, entropy = compute(model, hidden, token)
        (logp * weight).sum().backward()
        head = {
            key: value.grad.clone()
            for key, value in model.get_output_embeddings().named_parameters()
            if value.grad is not None
        }
        model.zero_grad()
        results.append((logp.detach(), entropy.detach(), hidden.grad, head))
    expected, found = results
    torch.testing.assert_close(found[:3], expected[:3], rtol=1e-5, atol=1e-6)
    assert found[3].keys() == expected[3].keys()
    assert bool(found[3]) == trains
    for key, value in found[3].items():
        torch.testing.assert_close(value, expected[3][key], rtol=1e-5, atol=1e-5)
    assert expected[2].abs().max() > 1e-3


def test_a_frozen_head_keeps_nothing_of_the_vocabularys_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 5)
    model, hidden, token = head_of("llama", trains=False)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logp, entropy = token_logprobs(model, hidden.requires_grad_(), token, TEMPERATURE)
    assert logp.requires_grad
    assert not entropy.requires_grad
    assert max(kept) == hidden.numel()


def test_rounded_logits_are_near_and_what_is_read_twice_has_the_same_bits() -> None:
    model, hidden, token = head_of("llama", trains=False)
    exact, _ = token_logprobs(model, hidden, token, TEMPERATURE)
    model.get_output_embeddings().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            before, _ = token_logprobs(model, hidden, token, TEMPERATURE)
        learning, _ = token_logprobs(model, hidden.requires_grad_(), token, TEMPERATURE)
    assert learning.dtype == torch.float32
    # The first ratio of an update is exp(0) only if both readings agree.
    assert torch.equal(before, learning)
    torch.testing.assert_close(learning, exact, rtol=0.02, atol=0.1)


def test_granite_divides_its_logits() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "granite", vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=4.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
        torch.testing.assert_close(logits_of(model, out.hidden_states[-1]), out.logits)
