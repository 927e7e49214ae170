"""Sampled answers: what transformers' own generation gives at the greedy limit, and the right frequencies above it."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from rewardloop.config import GenerationSettings
from rewardloop.modeling.generation import generate
from tests.bases import MASKED, PACKED, PADDED, VOCABULARY
from tests.policies import EOS, causal_of, policy_of

GREEDY = GenerationSettings(max_new_tokens=12, temperature=1e-6)


def prompts_of(lengths: tuple[int, ...]) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(2, VOCABULARY, length).tolist() for length in lengths]


def greedily(model: Any, prompt: list[int], limit: int) -> list[int]:
    """By transformers, one prompt at a time."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit, pad_token_id=0
        )
    found: list[int] = out[0, len(prompt) :].tolist()
    return found


class Distribution:
    """A policy whose next token has known logits, whatever came before."""

    def __init__(self, logits: list[float]) -> None:
        model = causal_of("gptj")  # its head has a bias
        with torch.no_grad():
            model.lm_head.weight.zero_()
            model.lm_head.bias.fill_(-1e4)
            model.lm_head.bias[: len(logits)] = torch.tensor(logits)
        self.policy = policy_of(model)


@pytest.mark.parametrize("name", PACKED | MASKED | PADDED)
def test_the_greedy_limit_is_transformers_own_generation(name: str) -> None:
    def ending(model: Any) -> Any:
        """With so many end tokens that answers leave the batch at different steps."""
        model.generation_config.eos_token_id = list(range(1, VOCABULARY, 4))
        return model

    prompts = prompts_of((1, 17, 5, 17, 26, 3, 9, 12))
    whole = ending(causal_of(name))
    expected = [greedily(whole, prompt, 12) for prompt in prompts]
    policy = policy_of(ending(causal_of(name)))
    policy.model.train()
    found = generate(policy, prompts, GREEDY, samples=2)
    assert found == [[answer, answer] for answer in expected]
    assert policy.model.training
    lengths = {len(answer) for answer in expected}
    assert len(lengths) >= 2
    assert max(lengths) >= 4
    # One prompt at a time, without padding, and more answers than rows.
    assert generate(policy, prompts, GREEDY.model_copy(update={"rows": 1}), samples=2) == found


def test_answers_end_at_their_end_token_or_at_the_limit_and_leave_the_batch() -> None:
    policy = Distribution([-1e4, 1.0, 1.5, 1.5]).policy  # the end has about a quarter
    rows: list[tuple[int, ...]] = []
    policy.causal_model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    told: list[int] = []
    settings = GenerationSettings(max_new_tokens=6, temperature=1.0)
    answers = generate(policy, [[5], [6, 7, 8]], settings, samples=20, seed=3, progress=told.append)
    assert [len(group) for group in answers] == [20, 20]
    flat = [answer for group in answers for answer in group]
    for answer in flat:
        assert EOS not in answer[:-1]
        assert answer[-1] == EOS or len(answer) == 6
        assert policy.finished(answer) == (answer[-1] == EOS)
    lengths = [len(answer) for answer in flat]
    # Prompts are read once each; then only answers without an end are: as many as are longer than the step.
    assert rows == [(2, 3)] + [(sum(length > step for length in lengths), 1) for step in range(1, max(lengths))]
    assert 1 in lengths
    assert 6 in lengths
    assert told == [40]


def test_nothing_is_read_after_the_last_end() -> None:
    policy = Distribution([-1e4, 50.0]).policy
    calls: list[int] = []
    policy.causal_model.base_model.register_forward_hook(lambda *_: calls.append(1))
    assert generate(policy, [[5], [6, 7]], GREEDY, samples=2) == [[[EOS], [EOS]], [[EOS], [EOS]]]
    assert len(calls) == 1


def test_equal_seeds_give_equal_answers_and_others_do_not() -> None:
    policy = policy_of(causal_of("llama"))
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0)
    prompts = prompts_of((4, 9))
    first = generate(policy, prompts, settings, samples=3, seed=(7, 1))
    torch.manual_seed(99)  # the sampling has a source of its own
    assert generate(policy, prompts, settings, samples=3, seed=(7, 1)) == first
    assert generate(policy, prompts, settings, samples=3, seed=(7, 2)) != first
    assert len({tuple(answer) for answer in first[0]}) == 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_they_should(temperature: float) -> None:
    logits = [-1e4, -1e4, 0.0, 0.5, 1.0, 1.5, -1.0]
    policy = Distribution(logits).policy
    settings = GenerationSettings(max_new_tokens=3, temperature=temperature, rows=2000)
    answers = generate(policy, [[5]], settings, samples=2000, seed=1)[0]
    expected = (torch.tensor(logits) / temperature).softmax(-1).double().numpy()
    for place in range(3):
        counts = np.bincount([answer[place] for answer in answers], minlength=len(logits))
        assert counts[:2].tolist() == [0, 0]
        kept = expected[2:] / expected[2:].sum()
        assert chisquare(counts[2:], kept * 2000).pvalue > 1e-4
    # Tokens of one answer do not depend on each other: the products of frequencies hold for pairs.
    pairs = np.zeros((5, 5))
    for first, second, _ in answers:
        pairs[first - 2, second - 2] += 1
    assert chisquare(pairs.ravel(), (np.outer(kept, kept) * 2000).ravel()).pvalue > 1e-4


def test_answers_of_one_policy_are_those_of_adapters_that_are_on() -> None:
    from rewardloop.modeling.policy import with_adapters
    from tests.policies import settings_of

    prompts = prompts_of((4, 9))
    before = generate(policy_of(causal_of("llama")), prompts, GREEDY)
    policy = with_adapters(policy_of(causal_of("llama")), settings_of(method="lora"))
    assert generate(policy, prompts, GREEDY) == before
    with torch.no_grad():
        for name, value in policy.model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.5)
    assert generate(policy, prompts, GREEDY) != before
    with policy.as_reference():
        assert generate(policy, prompts, GREEDY) == before
