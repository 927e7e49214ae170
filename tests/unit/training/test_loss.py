"""The group loss, against numbers worked by hand and against TRL's RewardTrainer."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from rewardloop.modeling.scoring import Block, prepare_reading, read_packed
from rewardloop.training.collation import Group, collate
from rewardloop.training.loss import (
    GroupLoss,
    Objective,
    Pairs,
    centering,
    group_loss,
    preference_margin,
    rating_margin,
    smoothed,
    vote_weights,
)


def pairs_of(pairs: list[tuple[int, int, float]], votes: list[float] | None = None, gap: float = 0.0) -> Pairs:
    a, b, p = zip(*pairs, strict=True)
    return Pairs(
        torch.tensor(a),
        torch.tensor(b),
        torch.tensor(p),
        torch.zeros(len(a), dtype=torch.int64),
        torch.tensor(votes or [1.0] * len(a)),
        torch.full((len(a),), gap),
    )


def loss_of(scores: list[float], pairs: list[tuple[int, int, float]], **objective: Any) -> GroupLoss:
    group_N = torch.zeros(len(scores), dtype=torch.int64)
    return group_loss(torch.tensor(scores), pairs_of(pairs), group_N, 1, Objective(**objective))


def test_hard_label_is_minus_log_sigmoid_of_the_margin() -> None:
    result = loss_of([1.0, 0.0], [(0, 1, 1.0)])
    assert result.loss_G.item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert result.accuracy_G.item() == 1.0


def test_soft_label_is_the_cross_entropy() -> None:
    # sigmoid(ln 3) = 3/4; with p = 3/4 the loss is the entropy of the label.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert loss_of([math.log(3.0), 0.0], [(0, 1, 0.75)]).loss_G.item() == pytest.approx(entropy, rel=1e-6)


def test_three_responses_average_over_the_pairs_with_evidence() -> None:
    one = math.log(1 + math.exp(-1))
    two = math.log(1 + math.exp(-2))
    # The pair (1, 2) has no evidence and does not count.
    assert loss_of([2.0, 1.0, 0.0], [(0, 1, 1.0), (0, 2, 1.0)]).loss_G.item() == pytest.approx(
        (one + two) / 2, rel=1e-6
    )


def test_centering_is_the_squared_mean_score() -> None:
    with_term = loss_of([3.0, 1.0], [(0, 1, 1.0)], centering=0.5).loss_G.item()
    assert with_term - loss_of([3.0, 1.0], [(0, 1, 1.0)]).loss_G.item() == pytest.approx(0.5 * 2.0**2, rel=1e-6)


def test_a_preference_margin_asks_for_more_the_surer_labelers_are() -> None:
    margins = preference_margin(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]), 2.0)
    assert margins.tolist() == [2.0, 1.0, 0.0, -1.0, -2.0]
    # A difference of 2 meets a margin of 2: nothing is left of it, and the loss is ln 2.
    found = loss_of([2.0, 0.0], [(0, 1, 1.0)], margin="preference", margin_scale=2.0)
    assert found.loss_G.item() == pytest.approx(math.log(2), rel=1e-6)
    assert found.margin_G.item() == 2.0


def test_a_rating_margin_is_the_gap_and_nothing_where_nobody_rated() -> None:
    assert rating_margin(torch.tensor([2.0, -1.0, math.nan]), 0.5).tolist() == [1.0, -0.5, 0.0]
    group_N = torch.zeros(2, dtype=torch.int64)
    pairs = pairs_of([(0, 1, 1.0)], gap=3.0)
    found = group_loss(torch.tensor([3.0, 0.0]), pairs, group_N, 1, Objective(margin="rating"))
    assert found.loss_G.item() == pytest.approx(math.log(2), rel=1e-6)


def test_smoothing_moves_labels_towards_one_half() -> None:
    assert smoothed(torch.tensor([1.0, 0.0, 0.5]), 0.2).tolist() == pytest.approx([0.9, 0.1, 0.5])
    # sigmoid(ln 9) = 0.9: with smoothed label 0.9 the loss is the label's entropy.
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    found = loss_of([math.log(9.0), 0.0], [(0, 1, 1.0)], label_smoothing=0.2)
    assert found.loss_G.item() == pytest.approx(entropy, rel=1e-5)


def test_votes_weigh_pairs_inside_groups_and_between_them() -> None:
    assert vote_weights(torch.tensor([6.0, 2.0]), 4.0).tolist() == [1.5, 0.5]
    # Two groups of one pair each: without votes both would give ln 2.
    pairs = Pairs(
        torch.tensor([0, 2]),
        torch.tensor([1, 3]),
        torch.tensor([1.0, 1.0]),
        torch.tensor([0, 1]),
        torch.tensor([6.0, 2.0]),
        torch.zeros(2),
    )
    found = group_loss(torch.zeros(4), pairs, torch.tensor([0, 0, 1, 1]), 2, Objective(mean_votes=4.0))
    assert found.loss_G.tolist() == pytest.approx([1.5 * math.log(2), 0.5 * math.log(2)])


def test_centering_term_alone() -> None:
    assert centering(torch.tensor([3.0, 1.0, -4.0]), torch.tensor([0, 0, 1]), 2).tolist() == [4.0, 16.0]


def test_ties_pull_scores_together_and_do_not_count_for_accuracy() -> None:
    scores = torch.tensor([2.0, 0.0], requires_grad=True)
    result = group_loss(scores, pairs_of([(0, 1, 0.5)]), torch.tensor([0, 0]), 1, Objective())
    result.loss_G.sum().backward()
    assert scores.grad is not None
    assert scores.grad[0] > 0 > scores.grad[1]
    assert math.isnan(result.accuracy_G.item())


def test_swapping_a_pair_and_its_label_changes_nothing() -> None:
    forward = loss_of([0.3, -0.7], [(0, 1, 0.8)]).loss_G
    backward = loss_of([0.3, -0.7], [(1, 0, 0.2)]).loss_G
    assert torch.allclose(forward, backward, rtol=1e-6)


@pytest.mark.parametrize("coefficient", [None, 0.01])
def test_two_hard_labelled_responses_equal_trl(tiny_base: str, tmp_path: Path, coefficient: float | None) -> None:
    """TRL's RewardTrainer is the oracle: same loss, same gradients, pairs of different lengths."""
    rows = [
        {"chosen": "a warm and funny film", "rejected": "dull"},
        {"chosen": "good", "rejected": "two hours that nobody gives back to you"},
        {"chosen": "see it twice", "rejected": "see it never"},
    ]
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=1, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=3,
            center_rewards_coefficient=coefficient,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.zero_grad()
    expected = trainer.compute_loss(trainer.model, dict(batch))
    expected.backward()
    expected_gradients = {
        name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None
    }

    sequences = [
        ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    half = len(sequences) // 2
    groups = [
        Group(i, (Block([], (sequences[i],)), Block([], (sequences[half + i],))), (0,), (1,), (1.0,))
        for i in range(half)
    ]
    model.zero_grad()
    reading = prepare_reading(model, max_length=128)
    assert reading.kind == "packed"
    ours = collate(groups, reading, 0)
    scores = read_packed(model, ours.rows, reading)
    # TRL centers the sum of two scores, we the mean: a quarter.
    objective = Objective(centering=4 * (coefficient or 0.0))
    loss = group_loss(scores, ours.pairs, ours.group_N, ours.groups, objective).loss_G.mean()
    loss.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in expected_gradients.items():
        actual = model.get_parameter(name).grad
        assert actual is not None, name
        assert torch.linalg.norm(actual - gradient) <= 1e-5 * torch.linalg.norm(gradient) + 1e-9, name
