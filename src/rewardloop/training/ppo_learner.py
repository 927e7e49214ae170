"""What one PPO update computes: everything about its answers once, then gradients, minibatch by minibatch.

In: answers, and the policy, reference and values that read them. Out: a ``Batch`` of tensors, and summed gradients.
A minibatch is some prompts with all their answers, so that a prompt is read once for all of them; which prompts is
drawn anew in every update. Of several processes each reads the answers that it gave itself; what is known of answers is
put together, so that all go on with the same tensors, and gradients are summed by the caller.

Shapes: B answers of an update, T tokens of the longest, W tokens of a row's answers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rewardloop.modeling.policy_rows import PolicyRow
from rewardloop.training.advantages import Advantages
from rewardloop.training.policy_loss import kl_k3, policy_loss, value_loss
from rewardloop.training.processes import Alone
from rewardloop.training.rollouts import Answers, Readers
from rewardloop.training.values import Values

LOGGED = ("policy_loss", "value_loss", "clip_fraction", "approx_kl")
"""What ``accumulate`` sums over tokens."""


@dataclass
class Batch:
    """The answers of an update as tensors; values of the forward pass before the first step."""

    rows: list[list[PolicyRow]]
    """Of each minibatch; those of this process."""
    places: list[list[Tensor]]
    """For each row, where its tokens stand in the flattened (B, T) tensors."""
    mask_BT: Tensor
    logp_BT: Tensor
    reference_BT: Tensor
    value_BT: Tensor
    entropy: float
    counts: list[int]

    def tokens(self, number: int) -> int:
        """Tokens of a minibatch's answers, in all processes."""
        return self.counts[number]


class PpoLearner:
    """Reads answers and learns from them; the optimizer is the caller's."""

    def __init__(self, readers: Readers, values: Values, processes: Alone | None = None) -> None:
        self.readers = readers
        self.values = values
        self.processes = processes or Alone()

    def minibatches(self, number: int, prompts: int) -> list[list[int]]:
        """Which of an update's prompts share an optimizer step."""
        settings = self.readers.settings
        count = min(settings.ppo.minibatches, prompts)
        order = np.random.default_rng((settings.seed, number, 1)).permutation(prompts).tolist()
        return [order[start::count] for start in range(count)]

    def share(self, number: int, prompts: int) -> list[int]:
        """Which of an update's prompts are this process's: as even a part of every minibatch as can be."""
        dealt = [place for part in self.minibatches(number, prompts) for place in part]
        return sorted(dealt[self.processes.rank :: self.processes.count])

    def read(self, answers: Answers, number: int) -> Batch:
        """Put the answers into rows, minibatch by minibatch, and read them once as they are now."""
        prompts = len(answers.prompts)
        parts, own = self.minibatches(number, prompts), set(self.share(number, prompts))
        longest = max(map(len, answers.ids))
        shape = (len(answers.ids), longest)
        logp, reference, value, mask = (torch.zeros(shape) for _ in range(4))
        entropy = 0.0
        rows, places = [], []
        for part in ([place for place in part if place in own] for part in parts):
            mine, where = self.readers.rows(answers.blocks(part)), []
            numbers = [place * answers.samples + sample for place in part for sample in range(answers.samples)]
            for row in mine:
                inside = [numbers.pop(0) for _ in row.lengths]
                flat_W = torch.cat(
                    [torch.arange(place * longest, place * longest + len(answers.ids[place])) for place in inside]
                )
                with torch.no_grad():
                    facts = self.readers.read(row)
                    logp.view(-1)[flat_W] = facts.logp_W.cpu()
                    reference.view(-1)[flat_W] = self.readers.read_reference(row).cpu()
                    value.view(-1)[flat_W] = self.values.read(row, facts.hidden_WH).float().cpu()
                mask.view(-1)[flat_W] = 1.0
                entropy += float(facts.entropy_W.sum())
                where.append(flat_W)
            rows.append(mine)
            places.append(where)
        # Each number is one process's and 0 elsewhere, so the sums are the same bits in all of them.
        self.processes.sum_up((mask, logp, reference, value))
        [entropy] = self.processes.total(entropy)
        lengths = [sum(map(len, block.responses)) for block in answers.blocks(range(prompts))]
        counts = [sum(lengths[place] for place in part) for part in parts]
        return Batch(rows, places, mask, logp, reference, value, entropy / answers.tokens, counts)

    def accumulate(self, batch: Batch, learnt: Advantages, number: int) -> dict[str, float]:
        """Add this process's part of the gradient of a minibatch's mean loss over tokens.

        Returns:
            sums over the tokens of all processes of what is to be logged.
        """
        ppo = self.readers.settings.ppo
        count = batch.tokens(number)
        sums = dict.fromkeys(LOGGED, 0.0)
        for row, flat_W in zip(batch.rows[number], batch.places[number], strict=True):
            old_W, advantage_W, return_W, before_W = (
                table.view(-1)[flat_W].to(self.readers.policy.device)
                for table in (batch.logp_BT, learnt.advantage_BT, learnt.return_BT, batch.value_BT)
            )
            facts = self.readers.read(row)
            policy_W = policy_loss(facts.logp_W, old_W, advantage_W, ppo.clip_range)
            value_W = value_loss(self.values.read(row, facts.hidden_WH), before_W, return_W, ppo.value_clip_range)
            loss = (policy_W.loss.sum() + ppo.value_coefficient * value_W.loss.sum()) / count
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                sums["policy_loss"] += float(policy_W.loss.sum())
                sums["value_loss"] += float(value_W.loss.sum())
                sums["clip_fraction"] += float(policy_W.clipped.sum())
                sums["approx_kl"] += float(kl_k3(old_W, facts.logp_W).sum())
        return dict(zip(sums, self.processes.total(*sums.values()), strict=True))
