"""The group loss, against numbers worked by hand and against TRL's RewardTrainer."""

import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from rewardloop.modeling.scoring import read_scores
from rewardloop.training.collation import Group, pad_groups
from rewardloop.training.loss import GroupLoss, Pairs, group_loss


def loss_of(scores: list[float], pairs: list[tuple[int, int, float]], centering: float = 0.0) -> GroupLoss:
    a, b, p = zip(*pairs, strict=True)
    return group_loss(
        torch.tensor(scores),
        Pairs(torch.tensor(a), torch.tensor(b), torch.tensor(p), torch.zeros(len(a), dtype=torch.int64)),
        torch.zeros(len(scores), dtype=torch.int64),
        1,
        centering=centering,
    )


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


def test_margin_is_subtracted_and_weights_average() -> None:
    pairs = Pairs(
        torch.tensor([0, 0]),
        torch.tensor([1, 2]),
        torch.tensor([1.0, 1.0]),
        torch.tensor([0, 0]),
        margin_P=torch.tensor([1.0, 0.0]),
        weight_P=torch.tensor([3.0, 1.0]),
    )
    result = group_loss(torch.tensor([1.0, 0.0, 1.0]), pairs, torch.tensor([0, 0, 0]), 1, centering=0.0)
    # Both differences become 0 after the margin, so both losses are ln 2.
    assert result.loss_G.item() == pytest.approx(math.log(2), rel=1e-6)
    # Without weights: one right pair, one tie in score.
    assert result.accuracy_G.item() == pytest.approx(0.75)


def test_ties_pull_scores_together_and_do_not_count_for_accuracy() -> None:
    scores = torch.tensor([2.0, 0.0], requires_grad=True)
    pairs = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]), torch.tensor([0]))
    result = group_loss(scores, pairs, torch.tensor([0, 0]), 1, centering=0.0)
    result.loss_G.sum().backward()
    assert scores.grad is not None
    assert scores.grad[0] > 0 > scores.grad[1]
    assert math.isnan(result.accuracy_G.item())


def test_swapping_a_pair_and_its_label_changes_nothing() -> None:
    forward = loss_of([0.3, -0.7], [(0, 1, 0.8)]).loss_G
    backward = loss_of([0.3, -0.7], [(1, 0, 0.2)]).loss_G
    assert torch.allclose(forward, backward, rtol=1e-6)


@pytest.mark.parametrize("centering", [None, 0.01])
def test_two_hard_labelled_responses_equal_trl(tiny_base: str, tmp_path: Path, centering: float | None) -> None:
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
            center_rewards_coefficient=centering,
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
    ours = pad_groups([Group(i, (sequences[i], sequences[half + i]), (0,), (1,), (1.0,)) for i in range(half)], 0)
    model.zero_grad()
    scores = read_scores(model, ours.ids_NT, ours.mask_NT)
    # TRL centers the sum of two scores, we the mean: a quarter.
    result = group_loss(scores, ours.pairs, ours.group_N, ours.groups, centering=4 * (centering or 0.0))
    loss = result.loss_G.mean()
    loss.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in expected_gradients.items():
        actual = model.get_parameter(name).grad
        assert actual is not None, name
        assert torch.linalg.norm(actual - gradient) <= 1e-5 * torch.linalg.norm(gradient) + 1e-9, name
