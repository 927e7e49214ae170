"""Values of tokens: a head that begins at nothing, or the reward model itself, standardized."""

from pathlib import Path

import pytest
import torch

from rewardloop.config import AlignSettings, TrainingSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import load_start
from rewardloop.modeling.policy_rows import RowReader
from rewardloop.modeling.reward_model import build_reward_model
from rewardloop.modeling.scoring import Block, RewardScorer, pad, read_padded
from rewardloop.training.policies import trainable
from rewardloop.training.values import RewardModelValues, SharedValues
from tests.policies import RuleScorer, settings_of, start_folder

BLOCKS = [Block([2, 3, 4], ([5, 6, 1], [7], [8, 8])), Block([9], ([10, 2, 1],))]


def scorer_of(base: Path) -> RewardScorer:
    """A reward model with the policy's tokenizer and weights that nobody trained."""
    model, tokenizer = build_reward_model(str(base), TrainingSettings(seed=3))
    scoring = {
        "template": "plain", "max_length": 32, "truncation_side": "left", "raw_mean": 0.25, "raw_spread": 0.5,
        "scale": {"raw": [0, 1], "public": [0, 1]},
    }  # fmt: skip
    return RewardScorer(model, tokenizer, scoring)


def settings(method: str) -> AlignSettings:
    return settings_of(method=method, ppo={"value": "reward_model"})


@pytest.mark.parametrize("method", ["full", "lora"])
def test_they_begin_as_the_reward_models_scores_before_each_token(base: Path, tmp_path: Path, method: str) -> None:
    scorer = scorer_of(base)
    policy = trainable(load_start(start_folder(tmp_path / "start", base), tmp_path), settings(method))
    values = RewardModelValues(scorer, policy, settings(method))
    row = RowReader(policy.causal_model, policy.reading, 0).row(BLOCKS)
    with torch.no_grad():
        found = values.read(row, torch.empty(0))
        prefixes = [
            [*block.prompt, *response[:place]]
            for block in BLOCKS
            for response in block.responses
            for place in range(len(response))
        ]
        expected = (read_padded(scorer.model, *pad(prefixes, 0)) - 0.25) / 0.5
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float(found.std()) > 0.01
    # What is learnt for values leaves the rewards as they are.
    kept = {name: value.clone() for name, value in scorer.model.named_parameters()}
    trained = [value for value in values.module.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    values.read(row, torch.empty(0)).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        assert not torch.allclose(values.read(row, torch.empty(0)), found, atol=1e-2)
    assert all(torch.equal(value, kept[name]) for name, value in scorer.model.named_parameters())
    everything = sum(value.numel() for value in values.module.parameters())
    share = sum(value.numel() for value in trained) / everything
    assert share == 1 if method == "full" else share < 0.6


def test_a_reward_model_behind_a_url_has_no_weights_to_begin_with(base: Path, tmp_path: Path) -> None:
    policy = load_start(start_folder(tmp_path / "start", base), tmp_path)
    with pytest.raises(BadInputError, match=r"align.ppo.value: reward_model: .*align.reward_url.*set it to shared"):
        RewardModelValues(RuleScorer(lambda prompt, response: 0.0), policy, settings("full"))


def test_other_tokens_are_refused(base: Path, tiny_base: str, tmp_path: Path) -> None:
    policy = load_start(start_folder(tmp_path / "start", tiny_base), tmp_path)
    with pytest.raises(BadInputError, match=r"align.ppo.value: reward_model: .*different tokenizers.*shared"):
        RewardModelValues(scorer_of(base), policy, settings("full"))


def test_a_shared_head_begins_at_nothing_and_teaches_the_trunk(base: Path, tmp_path: Path) -> None:
    policy = load_start(start_folder(tmp_path / "start", base), tmp_path)
    reader = RowReader(policy.causal_model, policy.reading, 0)
    row = reader.row(BLOCKS)
    values = SharedValues(32, torch.device("cpu"))
    assert values.read(row, reader.hidden(row)).tolist() == [0.0] * 9
    with torch.no_grad():
        values.module.weight.fill_(0.5)  # type: ignore[operator, union-attr]
    values.read(row, reader.hidden(row)).sum().backward()
    assert policy.model.model.layers[0].mlp.up_proj.weight.grad.abs().max() > 0
