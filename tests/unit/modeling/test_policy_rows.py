"""Rows of prompts with their answers say what ordinary calls of the model say, and so do their gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rewardloop.config import AlignSettings
from rewardloop.modeling.policy import Policy, prepare_policy_reading, with_adapters
from rewardloop.modeling.policy_rows import PolicyRow, RowReader
from rewardloop.modeling.scoring import Block
from rewardloop.modeling.token_logprobs import token_logprobs
from tests.bases import MASKED, PACKED, PADDED, VOCABULARY
from tests.policies import blocks_of, causal_of, one_by_one, policy_of

TEMPERATURE = 0.8


def read(model: Any, reader: RowReader, row: PolicyRow) -> tuple[Tensor, Tensor]:
    """(log-probabilities, hidden states)."""
    hidden = reader.hidden(row)
    return token_logprobs(model, hidden, row.token_W, TEMPERATURE)[0], hidden


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return found


def adapted(name: str, top: int | None) -> Policy:
    """A policy with adapters on its last layers that have already learnt something."""
    policy = policy_of(causal_of(name))
    settings = AlignSettings(prompts="p", lora_rank=4, lora_layers=top)
    policy = with_adapters(policy, settings)
    torch.manual_seed(3)
    with torch.no_grad():
        for key, value in policy.model.named_parameters():
            if "lora_B" in key:
                value.normal_(std=0.05)
    return policy


def test_a_row_knows_which_place_predicts_which_token() -> None:
    model = causal_of("llama")
    reader = RowReader(model, prepare_policy_reading(model), 0)
    row = reader.row([Block([7, 8], ([9], [10, 11])), Block([6], ([12, 13, 1],))])
    assert row.packed is not None
    # The row: 7 8 | - | 10 || 6 | 12 13. Nothing is predicted from an answer's last token, so it is not read; place 1,
    # the prompt's end, predicts two first tokens, and is read once.
    assert row.packed.ids_T.tolist() == [7, 8, 10, 6, 12, 13]
    assert row.token_W.tolist() == [9, 10, 11, 12, 13, 1]
    assert row.answer_W.tolist() == [0, 1, 1, 2, 2, 2]
    assert row.lengths == [1, 2, 3]
    assert row.read_U.tolist() == [1, 2, 3, 4, 5]
    assert row.read_U[row.place_W].tolist() == [1, 1, 2, 3, 4, 5]
    assert row.tokens == 6


@pytest.mark.parametrize("name", PACKED | MASKED | PADDED)
def test_rows_say_and_teach_what_one_call_per_answer_does(name: str) -> None:
    model = causal_of(name)
    blocks = blocks_of(4, VOCABULARY)
    expected_logp, expected_hidden = one_by_one(model, blocks, TEMPERATURE)
    weight = torch.randn(len(expected_logp), generator=torch.Generator().manual_seed(5))
    (expected_logp * weight).sum().backward()
    expected = gradients(model)
    reading = prepare_policy_reading(model)
    assert reading.kind == ("packed" if name in PACKED else "masked" if name in MASKED else "padded")
    assert not hasattr(model, "score")
    reader = RowReader(model, reading, 0)
    row = reader.row(blocks)
    assert (row.packed is None) == (name in PADDED)
    logp, hidden = read(model, reader, row)
    torch.testing.assert_close(hidden, expected_hidden, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(logp, expected_logp, rtol=1e-5, atol=2e-5)
    assert float(expected_logp.detach().std()) > 0.1
    (logp * weight).sum().backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    scale = max(float(value.abs().max()) for value in expected.values())
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["llama", "qwen2-sliding", "gemma3", "opt", "gpt2", "gptj", "falcon"])
def test_kept_lower_layers_change_no_bit(name: str) -> None:
    policy = adapted(name, 1)
    model = policy.causal_model
    layers: list[int] = []
    lowest = next(module for key, module in model.named_modules() if key.endswith((".layers.0", ".h.0")))
    lowest.register_forward_hook(lambda *_: layers.append(1))
    reader = RowReader(model, policy.reading, 0)
    assert reader.keeps_frozen
    results = []
    for keeps in (False, True):
        row = reader.row(blocks_of(6, VOCABULARY))
        if keeps:
            with torch.no_grad():
                reader.keep_below(row)
            assert row.below is not None
            layers.clear()
        logp, hidden = read(model, reader, row)
        logp.sum().backward()
        with torch.no_grad(), policy.as_reference():
            reference, _ = read(model, reader, row)
        results.append((logp.detach(), hidden.detach(), reference, gradients(model)))
        assert bool(layers) != keeps
    plain, kept = results
    for a, b in zip(plain[:3], kept[:3], strict=True):
        assert torch.equal(a, b)
    assert plain[3].keys() == kept[3].keys()
    assert all("lora_" in key for key in plain[3])
    assert all(torch.equal(value, kept[3][key]) for key, value in plain[3].items())
    assert not torch.equal(plain[0], plain[2])


def test_nothing_is_kept_where_the_lowest_layer_trains_or_rows_are_padded() -> None:
    for policy in (adapted("llama", None), policy_of(causal_of("llama")), adapted("bloom", 1)):
        reader = RowReader(policy.causal_model, policy.reading, 0)
        assert not reader.keeps_frozen
        row = reader.row(blocks_of(6, VOCABULARY))
        reader.keep_below(row)
        assert row.below is None


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "gptj", "bloom"])
def test_a_policy_that_has_generated_can_still_learn(name: str) -> None:
    from rewardloop.config import GenerationSettings
    from rewardloop.modeling.generation import generate

    policy = adapted(name, None)
    answers = generate(policy, [[5, 6, 7]], GenerationSettings(max_new_tokens=3), samples=2)
    reader = RowReader(policy.causal_model, policy.reading, 0)
    logp, _ = read(policy.causal_model, reader, reader.row([Block([5, 6, 7], tuple(answers[0]))]))
    logp.sum().backward()
    assert gradients(policy.model)
