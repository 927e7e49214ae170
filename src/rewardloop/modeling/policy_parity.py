"""A policy loaded elsewhere must be the one that was evaluated: answers with the log-probabilities they must get.

In: a saved policy and some answers. Out: ``parity.json`` beside its weights, or the largest difference from it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from rewardloop.errors import RewardloopError
from rewardloop.modeling.policy import Policy, load_policy
from rewardloop.modeling.policy_rows import RowReader
from rewardloop.modeling.scoring import Block
from rewardloop.modeling.token_logprobs import token_logprobs

_FILE = "parity.json"
_TOLERANCE = 1e-3
"""Of an answer's log-probability in nats, relative where that is above 1: float32 sums over a deep model and tokens."""


def write_policy_fixture(folder: Path, cache: Path, answers: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
    """Write ``folder/parity.json`` for (prompt, response) token pairs, computed by the policy as saved, in float32."""
    values = _logprobs(load_policy(folder, cache), answers)
    fixture = {
        "prompts": [list(prompt) for prompt, _ in answers],
        "responses": [list(response) for _, response in answers],
        "logprobs": values,
    }
    (folder / _FILE).write_text(json.dumps(fixture), encoding="utf-8")


def check_policy_parity(folder: Path, cache: Path, *, where: str) -> float:
    """Load the policy in ``folder`` and return the largest difference of a fixture's log-probability.

    Raises:
        RewardloopError: a difference is larger than rounding; ``where`` says which copy was checked.
    """
    fixture = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    found = _logprobs(load_policy(folder, cache), list(zip(fixture["prompts"], fixture["responses"], strict=True)))
    differences = [abs(a - b) for a, b in zip(found, fixture["logprobs"], strict=True)]
    for difference, wanted in zip(differences, fixture["logprobs"], strict=True):
        if not difference <= _TOLERANCE * max(1.0, abs(wanted)):
            raise RewardloopError(
                f"{where}: an answer of {_FILE} has another log-probability (by {difference:.2e}): the weights or the "
                "base have changed since the policy was saved"
            )
    return max(differences, default=0.0)


@torch.no_grad()
def _logprobs(policy: Policy, answers: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    reader = RowReader(policy.causal_model, policy.reading, policy.pad_id)
    sums = []
    for prompt, response in answers:
        row = reader.row([Block(list(prompt), (list(response),))])
        logp_W, _ = token_logprobs(policy.causal_model, reader.hidden(row), row.token_W, 1.0)
        sums.append(float(logp_W.double().sum()))
    return sums
