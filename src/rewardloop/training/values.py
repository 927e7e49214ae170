"""What an answer is expected to be worth, token by token: a head on the policy's trunk, or a model of its own.

In: rows of prompts with answers. Out: values, float32 of shape (W,), in the unit of the rewards.
"""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rewardloop.config import AlignSettings, TrainingSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import Policy
from rewardloop.modeling.policy_rows import PolicyRow, RowReader
from rewardloop.modeling.reward_model import scoring_module, with_lora
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.training.rewards import Scorer


class Values(Protocol):
    """Estimates values; ``module`` holds what trains for it."""

    module: nn.Module
    in_words: str

    def read(self, row: PolicyRow, hidden_WH: Tensor) -> Tensor:
        """Values before each token of the row's answers, shape (W,); ``hidden_WH`` is the policy's trunk there."""


class SharedValues:
    """A linear head on the policy's trunk, which learns for both; it begins at 0 everywhere."""

    in_words = "a head on the policy's trunk"

    def __init__(self, hidden_size: int, device: torch.device) -> None:
        self.module: nn.Module = nn.Linear(hidden_size, 1, device=device)
        for value in self.module.parameters():
            nn.init.zeros_(value)

    def read(self, row: PolicyRow, hidden_WH: Tensor) -> Tensor:
        """See ``Values``."""
        del row
        values: Tensor = self.module(hidden_WH)[:, 0]
        return values


class RewardModelValues:
    """A copy of the reward model that goes on learning: it knows from the start what makes an answer good."""

    in_words = "a model of its own, begun as the reward model"

    def __init__(self, scorer: Scorer, policy: Policy, settings: AlignSettings) -> None:
        if not isinstance(scorer, RewardScorer):
            raise BadInputError(
                "align.ppo.value: reward_model: the reward model is behind align.reward_url, so its weights are not "
                "here; set it to shared"
            )
        # The padding token may differ: only what the tokens mean must not.
        if scorer.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
            raise BadInputError(
                "align.ppo.value: reward_model: the reward model and the policy have different tokenizers, so its "
                "values cannot be read at the policy's tokens; set it to shared"
            )
        model: Any = copy.deepcopy(scorer.model).to(policy.device)
        if settings.method == "lora":
            model = with_lora(model, TrainingSettings(lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha))
        else:
            model.requires_grad_(True)
        self.module: nn.Module = model
        self.mean, self.spread = float(scorer.scoring["raw_mean"]), float(scorer.scoring["raw_spread"])
        self._reader = RowReader(scoring_module(model), scorer.reading, policy.pad_id)

    def read(self, row: PolicyRow, hidden_WH: Tensor) -> Tensor:
        """See ``Values``."""
        del hidden_WH
        hidden = self._reader.hidden(self._reader.row(row.blocks))
        raw: Tensor = scoring_module(self.module).score(hidden)[:, 0].float()
        return (raw - self.mean) / self.spread
