"""The reward model of this run as alignment and its evaluation ask it: in this process, or behind a URL.

In: the outputs of ``train_reward_model`` and ``evaluate_reward_model``, and the settings. Out: ``Rewards`` with the
scale of the evaluation, and where the model is.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from rewardloop.config import AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import asks_plainly
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.training.devices import choose_device
from rewardloop.training.rewards import Rewards, Scorer


class RewardSource(NamedTuple):
    """Where answers are scored."""

    digest: str
    """Of the reward model's files."""
    place: str
    """Device or URL."""


def open_rewards(settings: AlignSettings, reward_model: Path, evaluation: Path) -> tuple[Rewards, RewardSource]:
    """Rewards by the candidate.

    Raises:
        BadInputError: the device is absent, or another model answers at ``align.reward_url``.
    """
    digest = weights_digest(reward_model / "model")
    scoring = json.loads((evaluation / "scoring.json").read_text(encoding="utf-8"))
    scorer: Scorer
    if settings.reward_url:
        from rewardloop.modeling.remote_scorer import RemoteScorer

        scorer = RemoteScorer.connect(settings.reward_url, expected_digest=digest)
        place = settings.reward_url
    else:
        device = choose_device(settings.reward_device, "align.reward_device")
        local = RewardScorer.load(reward_model)
        local.model.to(device)
        local.allow_rounding(json.loads((reward_model / "parity.json").read_text(encoding="utf-8")))
        scorer, place = local, str(device)
    # Scale and threshold are the evaluation's, not yet part of the trained model's own file.
    scorer.scoring = scoring
    rewards = Rewards(scorer, scored=settings.scored, missing_eos_penalty=settings.missing_eos_penalty)
    return rewards, RewardSource(digest, place)


def check_template(tokenizer: Any, reward_model: Path, settings: AlignSettings) -> None:
    """Refuse a reward model that was made with another chat template than the policy is asked with.

    Raises:
        BadInputError: they differ and ``align.scored`` is ``response``.
    """
    from transformers import AutoTokenizer

    template = json.loads((reward_model / "scoring.json").read_text(encoding="utf-8"))["template"]
    if settings.scored == "text" or template != "chat" or asks_plainly(tokenizer, settings.plain_text):
        return
    theirs = AutoTokenizer.from_pretrained(reward_model / "model", trust_remote_code=False)
    if theirs.chat_template != tokenizer.chat_template:
        raise BadInputError(
            "align.policy: the policy's chat template is not the one that the reward model was trained with, so its "
            "scores of the policy's answers mean something else; train the reward model on a base with the policy's "
            "template, or set align.scored: text"
        )
