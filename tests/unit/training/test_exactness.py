"""Packed training is the padded pairwise computation: same loss, same gradients, whatever shares a row or a step."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from rewardloop.config import TrainingSettings
from rewardloop.modeling.reward_model import scoring_module
from rewardloop.modeling.scoring import Block, pad, prepare_reading, read_packed, read_padded
from rewardloop.training.collation import Group, collate
from rewardloop.training.loss import Objective, group_loss
from tests.bases import MASKED, PACKED, VOCABULARY, make_base

Gradients = dict[str, torch.Tensor]


def groups_of(sizes: list[int], seed: int, *, prompts: bool = True) -> list[Group]:
    """Groups of mixed lengths with hard and soft labels, ties, and pairs without evidence."""
    random = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> list[int]:
        values: list[int] = random.integers(2, VOCABULARY, random.integers(low, high)).tolist()
        return values

    made = []
    for number, size in enumerate(sizes):
        responses = tuple(tokens(1, 25) for _ in range(size))
        blocks = (Block(tokens(3, 30), responses),) if prompts else tuple(Block([], (one,)) for one in responses)
        pairs = [(a, b) for a in range(size) for b in range(a + 1, size) if size == 2 or random.random() < 0.8]
        labels = random.choice([0.0, 0.25, 0.5, 0.9, 1.0], len(pairs))
        made.append(Group(number, blocks, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), tuple(labels)))
    return [group for group in made if group.a]


def pairwise(model: Any, groups: list[Group], coefficient: float) -> torch.Tensor:
    """The obvious computation: every pair's two sequences in padded rows of their own."""
    losses = []
    for group in groups:
        whole = [[*block.prompt, *response] for block in group.blocks for response in block.responses]
        terms = []
        for a, b, p in zip(group.a, group.b, group.p, strict=True):
            first, second = read_padded(model, *pad([whole[a], whole[b]], 0))
            terms.append(binary_cross_entropy_with_logits(first - second, torch.tensor(p, dtype=torch.float32)))
        scores = torch.cat([read_padded(model, *pad([one], 0)) for one in whole])
        losses.append(torch.stack(terms).mean() + coefficient * scores.mean() ** 2)
    return torch.stack(losses).mean()


def gradients(model: Any) -> Gradients:
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return found


def assert_same(found: Gradients, expected: Gradients) -> None:
    assert found.keys() == expected.keys()
    total = torch.sqrt(sum((value**2).sum() for value in expected.values()))  # type: ignore[arg-type]
    for name, value in expected.items():
        # Relative to the weight's own gradient, or to the whole where a weight has next to none.
        assert torch.linalg.norm(found[name] - value) <= 1e-5 * torch.linalg.norm(value) + 1e-7 * total, name


def both(model: Any, groups: list[Group], coefficient: float = 0.01) -> tuple[float, float, Gradients, Gradients]:
    inner = scoring_module(model)
    expected = pairwise(inner, groups, coefficient)
    expected.backward()
    wanted = gradients(model)
    reading = prepare_reading(inner, max_length=256)
    assert reading.kind != "padded"
    batch = collate(groups, reading, 0)
    scores = read_packed(inner, batch.rows, reading)
    loss = group_loss(scores, batch.pairs, batch.group_N, batch.groups, Objective(centering=coefficient)).loss_G.mean()
    loss.backward()
    return float(loss.detach()), float(expected.detach()), gradients(model), wanted


@pytest.mark.parametrize("prompts", [True, False])
def test_groups_of_two_to_thirteen_in_one_row(prompts: bool) -> None:
    model = make_base(*PACKED["llama"])
    loss, expected, found, wanted = both(model, groups_of([2, 3, 4, 7, 13, 2], 3, prompts=prompts))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same(found, wanted)


@pytest.mark.parametrize("name", [*PACKED, *MASKED])
def test_every_family(name: str) -> None:
    model = make_base(*(PACKED | MASKED)[name])
    loss, expected, found, wanted = both(model, groups_of([3, 4, 2], 5))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same(found, wanted)


def test_with_gradient_checkpointing() -> None:
    groups = groups_of([3, 4, 2], 7)
    model = make_base(*PACKED["llama"])
    _, _, _, wanted = both(model, groups)
    again = make_base(*PACKED["llama"]).train()
    again.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    loss, expected, found, _ = both(again, groups)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same(found, wanted)


def test_with_lora() -> None:
    from rewardloop.modeling.reward_model import with_lora

    model = with_lora(make_base(*PACKED["llama"]), TrainingSettings(lora_rank=4))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.1)  # they start at zero, and then the other half has no gradient
    loss, expected, found, wanted = both(model, groups_of([3, 4, 2], 9))
    assert all("lora" in name or "score" in name for name in found)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same(found, wanted)
