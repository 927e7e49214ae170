"""Rollouts: answers, their rewards and their KL, as one call per answer gives them."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rewardloop.errors import BadInputError
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import Policy
from rewardloop.modeling.scoring import Block
from rewardloop.training.order import cycled
from rewardloop.training.policies import trainable
from rewardloop.training.rewards import Rewards
from rewardloop.training.rollouts import (
    Prompt,
    Readers,
    answer,
    kl_of,
    reference_answers,
    validate,
    validation_point,
)
from tests.policies import RuleScorer, causal_of, one_by_one, policy_of, prompt_of, settings_of

TEXTS = ["ab", "cdefghabcdefghi", "i"]


def letters_a(prompt: str, response: str) -> float:
    return float(response.count("a"))


def learnt(name: str, **fields: Any) -> tuple[Policy, Policy | None, Any]:
    """(a policy that has learnt something, its reference if it is a model of its own, settings)."""
    settings = settings_of(generation={"max_new_tokens": 7, "temperature": 0.7}, **fields)
    # Eleven tokens, so that answers have letters and ends.
    policy = trainable(policy_of(causal_of(name, vocab_size=11)), settings)
    torch.manual_seed(2)
    with torch.no_grad():
        for value in policy.model.parameters():
            if value.requires_grad:
                value.add_((0.03 if settings.method == "full" else 0.1) * torch.randn_like(value))
    reference = policy_of(causal_of(name, vocab_size=11)) if settings.method == "full" else None
    return policy, reference, settings


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "bloom"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("budget", [20, 4096])
def test_the_kl_is_that_of_whole_answers(name: str, method: str, budget: int) -> None:
    policy, reference, settings = learnt(name, method=method, tokens_per_batch=budget)
    rewards = Rewards(RuleScorer(letters_a), scored="response")
    prompts = [prompt_of(policy, text) for text in TEXTS]
    answers = answer(policy, prompts, rewards, settings, samples=2, seed=1)
    found = kl_of(Readers(policy, settings, reference), answers)
    blocks = answers.blocks(range(len(prompts)))
    lengths = list(map(len, answers.ids))
    with torch.no_grad():
        # Ordinary calls of the bare model: adapters off are the reference.
        logp = one_by_one(policy.causal_model, blocks, 0.7)[0]
        before = one_by_one(causal_of(name, vocab_size=11), blocks, 0.7)[0]
    expected = [float(part.sum()) for part in torch.split(logp - before, lengths)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found).max() > 0.1


def test_answers_come_with_their_texts_ends_and_rewards_prompt_by_prompt() -> None:
    policy, _, settings = learnt("llama", missing_eos_penalty=0.25)
    rewards = Rewards(RuleScorer(lambda prompt, response: len(prompt) + letters_a(prompt, response)), scored="response",
                      missing_eos_penalty=0.25)  # fmt: skip
    prompts = [prompt_of(policy, text) for text in TEXTS]
    found = answer(policy, prompts, rewards, settings, samples=20, seed=(3, 1))
    assert found.ids == [
        one
        for group in generate(policy, [p.ids for p in prompts], settings.generation, samples=20, seed=(3, 1))
        for one in group
    ]
    assert found.tokens == sum(map(len, found.ids))
    assert [message[0]["content"] for message in found.messages] == [text for text in TEXTS for _ in range(20)]
    letters = ["", "", *"abcdefghi"]
    for place, (ids, text, finished) in enumerate(zip(found.ids, found.texts, found.finished, strict=True)):
        assert text == "".join(letters[token] for token in ids)
        assert finished == (ids[-1] == 1)
        expected = len(TEXTS[place // 20]) + text.count("a") - (0 if finished else 0.25)
        assert found.reward_B[place] == pytest.approx(expected)
    assert 0 < sum(found.finished) < 60
    assert found.blocks([2, 0]) == [
        Block(prompts[2].ids, tuple(found.ids[40:60])), Block(prompts[0].ids, tuple(found.ids[:20])),
    ]  # fmt: skip


def test_a_validation_repeats_its_noise_and_reports_what_it_saw() -> None:
    policy, reference, settings = learnt("llama", kl={"budget": 1e-6})
    readers = Readers(policy, settings, reference)
    rewards = Rewards(RuleScorer(letters_a), scored="response")
    prompts = [prompt_of(policy, text) for text in [*TEXTS, "ba", "gg"]]
    point, samples = validate(readers, prompts, rewards, update=3)
    assert (point, samples) == validate(readers, prompts, rewards, update=3)
    answers = answer(policy, prompts, rewards, settings, samples=1, seed=(0, 1 << 32))
    kl = kl_of(readers, answers)
    assert point.update == 3
    assert point.reward == pytest.approx(np.mean([text.count("a") for text in answers.texts]))
    assert point.kl == pytest.approx(kl.mean())
    assert point.length == answers.tokens / 5
    assert not point.within_budget
    assert validation_point(answers, kl, settings.model_copy(update={"kl": settings.kl.model_copy(
        update={"budget": 1e6})}), 3)[0].within_budget  # fmt: skip
    assert [(sample.prompt, sample.response) for sample in samples] == list(
        zip([*TEXTS, "ba"], answers.texts[:4], strict=True)
    )
    assert [sample.reward for sample in samples] == answers.reward_B[:4].tolist()


def test_answers_that_cannot_be_scored_stop_a_training_and_not_an_evaluation() -> None:
    policy, _, settings = learnt("llama")
    rewards = Rewards(RuleScorer(lambda prompt, response: float("nan")), scored="response")
    with pytest.raises(BadInputError, match="the reward model gives nan"):
        answer(policy, [prompt_of(policy, "a")], rewards, settings, samples=1, seed=0)
    assert np.isnan(
        answer(policy, [prompt_of(policy, "a")], rewards, settings, samples=1, seed=0, strict=False).reward_B
    )


def test_references_are_answers_in_the_order_of_their_keys() -> None:
    def row(split: str, key: str, sample: int, response: str, ids: list[int]) -> dict[str, Any]:
        return {
            "split": split, "key": key, "sample": sample, "prompt": [{"role": "user", "content": key}],
            "prompt_ids": [len(key)], "response": response, "response_ids": ids, "finished": ids[-1] == 1,
        }  # fmt: skip

    table = pl.DataFrame([
        row("test", "bb", 1, "aa", [2, 2]), row("test", "bb", 0, "a", [2, 1]), row("train", "c", 0, "x", [3]),
        row("test", "a", 0, "", [1]), row("test", "a", 1, "aaa", [2, 2, 2, 1]),
    ])  # fmt: skip
    found = reference_answers(table, "test", Rewards(RuleScorer(letters_a), scored="response", missing_eos_penalty=0.5))
    assert found.prompts == [
        Prompt([{"role": "user", "content": "a"}], [1]),
        Prompt([{"role": "user", "content": "bb"}], [2]),
    ]
    assert found.samples == 2
    assert found.ids == [[1], [2, 2, 2, 1], [2, 1], [2, 2]]
    assert found.texts == ["", "aaa", "a", "aa"]
    assert found.reward_B.tolist() == [0.0, 3.0, 1.0, 1.5]
    assert [prompt.shown for prompt in found.prompts] == ["a", "bb"]


def test_prompts_are_gone_through_in_shuffled_passes() -> None:
    seen = [cycled(7, 3, step, 5) for step in range(7)]
    flat = [place for places in seen for place in places]
    passes = [flat[:7], flat[7:14], flat[14:]]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1]
    assert seen == [cycled(7, 3, step, 5) for step in range(7)]
    assert seen != [cycled(7, 3, step, 6) for step in range(7)]
    # More prompts in an update than there are.
    assert sorted(cycled(2, 5, 0, 1))[:2] == [0, 0]


def test_rows_hold_as_many_tokens_as_they_may() -> None:
    policy, reference, settings = learnt("llama", tokens_per_batch=12)
    readers = Readers(policy, settings, reference)
    blocks = [Block([2, 3], ([4, 1], [5, 1])), Block([2], ([3, 4, 1],)), Block([2], ([3] * 9,)), Block([4], ([1],))]
    rows = readers.rows(blocks)
    # Blocks of 6 + 4 and 10 + 2 tokens; the last of each answer does not go through the model.
    assert [len(row.blocks) for row in rows] == [2, 2]
    assert [row.tokens for row in rows] == [7, 10]
    assert [token for row in rows for token in row.token_W.tolist()] == [4, 1, 5, 1, 3, 4, 1, *[3] * 9, 1]
