"""Rollouts: the policy's answers to some prompts with everything that an update or an evaluation asks of them.

In: a policy, prompts, rewards. Out: answers as tokens and texts, rewards, and log-probabilities under the policy and
its reference, of the same forward pass that training uses: what generation computes is rounded differently.

Shapes: B answers, T tokens of the longest, W tokens of a row's answers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rewardloop.config import AlignSettings
from rewardloop.evidence import SampleLine, ValidationRewardPoint
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import Policy
from rewardloop.modeling.policy_rows import PolicyRow, RowReader
from rewardloop.modeling.scoring import Block, Floats, Messages, fill_rows
from rewardloop.modeling.token_logprobs import token_logprobs
from rewardloop.training.processes import Alone
from rewardloop.training.rewards import Rewards

_VALIDATION_SEED = 1 << 32
"""No update has this number."""
_SAMPLES = 4
"""Validation answers that are kept to read, per evaluation."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as messages and as the policy's tokens."""

    messages: Messages
    ids: list[int]

    @property
    def shown(self) -> str:
        """As people read it."""
        return "\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True)
class Answers:
    """Answers of one policy, ``samples`` per prompt, prompt by prompt."""

    prompts: list[Prompt]
    samples: int
    ids: list[list[int]]
    texts: list[str]
    finished: list[bool]
    reward_B: Floats
    seconds: float
    """Of the generation."""

    @property
    def tokens(self) -> int:
        """Generated."""
        return sum(map(len, self.ids))

    @property
    def messages(self) -> list[Messages]:
        """The prompt of each answer."""
        return [prompt.messages for prompt in self.prompts for _ in range(self.samples)]

    @classmethod
    def of_parts(cls, prompts: Sequence[Prompt], parts: Sequence[tuple[Sequence[int], "Answers"]]) -> "Answers":
        """Put answers to some of ``prompts`` each together, given the places of those prompts; in their order."""
        where = {place: (mine, number) for places, mine in parts for number, place in enumerate(places)}
        samples = parts[0][1].samples

        def joined(name: str) -> list[Any]:
            found = (where[place] for place in range(len(prompts)))
            return [
                one for mine, number in found for one in getattr(mine, name)[number * samples : (number + 1) * samples]
            ]

        ids, texts, finished, reward = (joined(name) for name in ("ids", "texts", "finished", "reward_B"))
        return cls(
            list(prompts), samples, ids, texts, finished, np.asarray(reward), max(mine.seconds for _, mine in parts)
        )

    def blocks(self, places: Sequence[int]) -> list[Block]:
        """Prompts at ``places`` with their answers."""
        return [
            Block(self.prompts[place].ids, tuple(self.ids[place * self.samples : (place + 1) * self.samples]))
            for place in places
        ]


def answer(
    policy: Policy,
    prompts: Sequence[Prompt],
    rewards: Rewards,
    settings: AlignSettings,
    *,
    samples: int,
    seed: int | Sequence[int],
    numbers: Sequence[int] | None = None,
    strict: bool = True,
) -> Answers:
    """Let the policy answer, and score the answers; ``numbers`` as in ``generate``, ``strict`` as in ``Rewards``."""
    if not prompts:
        return Answers([], samples, [], [], [], np.zeros(0), 0.0)
    started = time.monotonic()
    asked = [prompt.ids for prompt in prompts]
    found = generate(policy, asked, settings.generation, samples=samples, seed=seed, numbers=numbers)
    seconds = time.monotonic() - started
    ids = [row for rows in found for row in rows]
    each = [prompt for prompt in prompts for _ in range(samples)]
    texts = [policy.text(prompt.ids, row) for prompt, row in zip(each, ids, strict=True)]
    finished = [policy.finished(row) for row in ids]
    reward_B = rewards([prompt.messages for prompt in each], texts, finished, strict=strict)
    return Answers(list(prompts), samples, ids, texts, finished, reward_B, seconds)


class TokenFacts(NamedTuple):
    """Of the tokens of answers, float32 of shape (W,) each."""

    logp_W: Tensor
    entropy_W: Tensor
    hidden_WH: Tensor


class Readers:
    """The policy and its reference, as rows are read with them."""

    def __init__(self, policy: Policy, settings: AlignSettings, reference: Policy | None = None) -> None:
        self.policy = policy
        self.settings = settings
        self.reader = RowReader(policy.causal_model, policy.reading, policy.pad_id)
        self.reference = reference
        """A model of its own where the policy has no adapters to switch off."""
        self._second = (
            None if reference is None else RowReader(reference.causal_model, reference.reading, reference.pad_id)
        )

    def rows(self, blocks: Sequence[Block]) -> list[PolicyRow]:
        """Rows of at most ``tokens_per_batch`` tokens where that is possible, with what frozen layers give kept."""
        rows = [self.reader.row(part) for part in fill_rows(blocks, self.settings.tokens_per_batch)]
        with torch.no_grad(), self.policy.autocast():
            for row in rows:
                self.reader.keep_below(row)
        return rows

    def read(self, row: PolicyRow) -> TokenFacts:
        """The policy's view of a row's answers, with gradients where they are on."""
        with self.policy.autocast():
            hidden_WH = self.reader.hidden(row)
            logp, entropy = token_logprobs(
                self.policy.causal_model, hidden_WH, row.token_W, self.settings.generation.temperature
            )
        return TokenFacts(logp, entropy, hidden_WH.float())

    @torch.no_grad()
    def read_reference(self, row: PolicyRow) -> Tensor:
        """The reference's log-probabilities of a row's answers, shape (W,)."""
        if self.reference is None or self._second is None:
            with self.policy.as_reference():
                return self.read(row).logp_W
        with self.reference.autocast():
            hidden_WH = self._second.hidden(self._second.row(row.blocks))
            return token_logprobs(
                self.reference.causal_model, hidden_WH, row.token_W, self.settings.generation.temperature
            )[0]


@torch.no_grad()
def kl_of(readers: Readers, answers: Answers) -> Floats:
    """log pi - log ref summed over each answer, float64 of shape (B,)."""
    sums = []
    for row in readers.rows(answers.blocks(range(len(answers.prompts)))):
        difference_W = readers.read(row).logp_W - readers.read_reference(row)
        sums += [float(part.sum()) for part in torch.split(difference_W.double(), row.lengths)]
    return np.asarray(sums)


def reference_answers(references: pl.DataFrame, split: str, rewards: Rewards, *, strict: bool = True) -> Answers:
    """The references of a split as answers, scored; prompts in the order of their keys."""
    table = references.filter(split=split).sort("key", "sample")
    firsts = table.filter(sample=0)
    prompts = [
        Prompt(messages, ids)
        for messages, ids in zip(firsts["prompt"].to_list(), firsts["prompt_ids"].to_list(), strict=True)
    ]
    texts, finished = table["response"].to_list(), table["finished"].to_list()
    reward_B = rewards(table["prompt"].to_list(), texts, finished, strict=strict)
    samples = len(table) // max(1, len(prompts))
    return Answers(prompts, samples, table["response_ids"].to_list(), texts, finished, reward_B, 0.0)


def validation_point(
    answers: Answers, kl_B: Floats, settings: AlignSettings, update: int
) -> tuple[ValidationRewardPoint, list[SampleLine]]:
    """What answers to the validation prompts say about the policy after ``update``, and some of them to read."""
    point = ValidationRewardPoint(
        update=update,
        reward=float(answers.reward_B.mean()),
        kl=float(kl_B.mean()),
        length=answers.tokens / len(answers.ids),
        within_budget=float(kl_B.mean()) <= settings.kl.budget,
    )
    samples = [
        SampleLine(
            update=update,
            prompt=answers.prompts[place].shown,
            response=answers.texts[place],
            reward=float(answers.reward_B[place]),
            kl=float(kl_B[place]),
        )
        for place in range(min(_SAMPLES, len(answers.ids)))
    ]
    return point, samples


def validate(
    readers: Readers, prompts: Sequence[Prompt], rewards: Rewards, *, update: int, processes: Alone | None = None
) -> tuple[ValidationRewardPoint, list[SampleLine]]:
    """Let the policy answer the validation prompts, with the same noise every time; each process answers its part."""
    settings, processes = readers.settings, processes or Alone()
    mine = range(processes.rank, len(prompts), processes.count)
    answers = answer(
        readers.policy,
        [prompts[place] for place in mine],
        rewards,
        settings,
        samples=1,
        seed=(settings.seed, _VALIDATION_SEED),
        numbers=mine,
    )
    parts = processes.gather((mine, answers, kl_of(readers, answers)))
    kl_B = np.zeros(len(prompts))
    for places, _, kl in parts:
        kl_B[list(places)] = kl
    whole = Answers.of_parts(prompts, [(places, found) for places, found, _ in parts])
    return validation_point(whole, kl_B, settings, update)
