"""How surprised a policy is by a text: the mean negative log-likelihood that transformers itself gives."""

import pytest
import torch

from rewardloop.modeling.policy import Policy, place_tokenizer
from rewardloop.modeling.scoring import Block
from rewardloop.training.text_losses import text_blocks, text_losses
from tests.policies import causal_of, policy_of

CHAT = [{"role": "user", "content": "abc"}]


def test_a_text_without_prompt_is_predicted_from_its_first_token_on() -> None:
    policy = policy_of(causal_of("llama"))
    assert text_blocks(policy, [([], "abcd"), (CHAT, "de"), ([], "a"), ([], ""), (CHAT, "")]) == [
        Block([2], ([3, 4, 5],)),
        Block([2, 3, 4], ([5, 6],)),
    ]


def test_long_texts_are_cut_to_half_the_context_and_prompts_from_the_left() -> None:
    policy = policy_of(causal_of("llama", max_position_embeddings=8))
    long = [{"role": "user", "content": "abcdefg"}]
    assert text_blocks(policy, [([], "abcdefghi"), (long, "ihgfed")]) == [
        Block([2], ([3, 4, 5],)),
        Block([5, 6, 7, 8], ([10, 9, 8, 7],)),
    ]


@pytest.mark.parametrize("budget", [5, 1000])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
def test_losses_are_those_of_transformers(name: str, budget: int) -> None:
    policy = policy_of(causal_of(name))
    texts = [([], "abcdefgh"), (CHAT, "ihg"), ([], "ba"), (CHAT, "abc")]
    found = text_losses(policy, text_blocks(policy, texts), budget)
    whole = causal_of(name)
    for (prompt, text), value in zip(texts, found, strict=True):
        head = policy.prompt_ids(prompt) if prompt else []
        ids = torch.tensor([[*head, *policy.tokenizer(text)["input_ids"]]])
        labels = ids.clone()
        labels[:, : len(head)] = -100
        with torch.no_grad():
            expected = float(whole(input_ids=ids, labels=labels).loss)
        assert value == pytest.approx(expected, abs=1e-5)
    assert found.std() > 0.01


def test_a_byte_policy_knows_texts_of_any_kind(tiny_base: str) -> None:
    policy = Policy(causal_of("llama"), place_tokenizer(tiny_base), plain_text=True)
    blocks = text_blocks(policy, [([], "Grüße, 世界!\n")])
    assert sum(map(len, blocks[0].responses)) + 1 == len("Grüße, 世界!\n".encode())
    assert text_losses(policy, blocks, 100).shape == (1,)
