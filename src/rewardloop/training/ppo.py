"""Proximal policy optimization of a language model against a reward model, with a KL penalty to where it began.

In: a start policy, prompts, rewards. Out: the policy with the weights that did best on *validation* prompts within the
KL budget, and every update's figures. Per update: the policy answers, the answers are scored, log-probabilities and
values are computed once by the forward pass that training uses, and then the clipped losses are followed for a few
epochs. A killed training goes on after its last checkpoint with the same bits. Several processes share the prompts of
an update and the validation prompts; each holds the whole policy, and together they do what one does.

After Ziegler et al. 2019, Stiennon et al. 2020, Ouyang et al. 2022 and Huang et al. 2024 ("The N+ implementation
details of RLHF with PPO"); where they differ, the comment at the place names whom it follows.

Shapes: B answers of an update, T tokens of the longest, W tokens of a row's answers.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewardloop.config import PLACES, AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import SampleLine, UpdatePoint, ValidationRewardPoint
from rewardloop.modeling.policy import Policy
from rewardloop.training.advantages import (
    Advantages,
    explained_variance,
    generalized_advantages,
    token_rewards,
    whiten,
)
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collapse import TextFacts, collapsed, facts_of, over_budget, plateau
from rewardloop.training.kl_control import KlControl
from rewardloop.training.order import cycled
from rewardloop.training.policy_loss import kl_k3
from rewardloop.training.ppo_learner import LOGGED, Batch, PpoLearner
from rewardloop.training.processes import Alone
from rewardloop.training.reader import is_out_of_memory
from rewardloop.training.rewards import Rewards
from rewardloop.training.rollouts import Answers, Prompt, Readers, answer, validate, validation_point
from rewardloop.training.values import SharedValues, Values


@dataclass
class PpoProgress:
    """What a checkpoint keeps of a training besides its weights."""

    update: int = 0
    seconds: float = 0.0
    generation_seconds: float = 0.0
    tokens: int = 0
    best_update: int = 0
    best_reward: float = -math.inf
    stopped: str = ""
    curve: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)


class PpoTrainer:
    """One training run.

    Args:
        policy: with adapters, or with all weights training.
        settings: the section ``align``.
        train: prompts to learn on.
        validation: the reference's answers to the prompts on which the best weights are chosen, one each.
        rewards: scores answers.
        reference_facts: how the reference answers the prompts at these positions of ``train``.
        reference: a model of its own where the policy has no adapters to switch off.
        values: estimates values; None: a head on the policy's trunk.
        processes: that train this policy together.

    Raises:
        BadInputError: there are fewer prompts in an update than processes.
    """

    def __init__(
        self,
        policy: Policy,
        settings: AlignSettings,
        *,
        train: Sequence[Prompt],
        validation: Answers,
        rewards: Rewards,
        reference_facts: Callable[[Sequence[int]], TextFacts],
        reference: Policy | None = None,
        values: Values | None = None,
        processes: Alone | None = None,
    ) -> None:
        self.processes = processes or Alone()
        if self.processes.count > settings.prompts_per_update:
            raise BadInputError(
                f"align.prompts_per_update: found {settings.prompts_per_update} for {self.processes.count} processes; "
                "each answers one prompt at least: raise it, or lower distributed.processes or distributed.nodes"
            )
        self.policy = policy
        self.settings = settings
        self.train = list(train)
        self.validation = validation
        self.rewards = rewards
        self.reference_facts = reference_facts
        self.readers = Readers(policy, settings, reference)
        self.values = values or SharedValues(policy.width, policy.device)
        self.learner = PpoLearner(self.readers, self.values, self.processes)
        self.control = KlControl(settings.kl)
        self.episodes = settings.prompts_per_update * settings.samples_per_prompt
        self.updates = math.ceil(settings.episodes / self.episodes)
        self.trained = {
            f"{part}.{name}": value
            for part, module in (("policy", policy.model), ("values", self.values.module))
            for name, value in module.named_parameters()
            if value.requires_grad
        }
        """By name: what the optimizer moves."""
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=settings.learning_rate, weight_decay=0.0, fused=True
        )
        self.progress = PpoProgress()
        self.best: dict[str, Tensor] = {}

    def run(
        self,
        checkpoints: CheckpointFolder,
        *,
        each_update: Callable[[UpdatePoint], object] = lambda point: None,
    ) -> int | None:
        """Train to the end or to a reason to stop, then take the best weights.

        Returns:
            the update that was gone on from, or None for a training from the beginning.

        Raises:
            BadInputError: a loss or a reward is not a finite number, or the checkpoint is of another training.
        """
        resumed = self._restore(checkpoints)
        self.processes.take_firsts(self.trained.values())
        try:
            self._loop(checkpoints, each_update, fresh=resumed is None)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise BadInputError(
                f"align: out of memory at update {self.progress.update + 1}: lower align.generation.rows (now "
                f"{self.settings.generation.rows}) or align.tokens_per_batch (now {self.settings.tokens_per_batch:,})"
            ) from error
        self._load_weights(self.best)
        self.processes.take_firsts(self.trained.values())  # the others keep no copy of the best
        return resumed

    def _loop(
        self, checkpoints: CheckpointFolder, each_update: Callable[[UpdatePoint], object], *, fresh: bool
    ) -> None:
        evaluate_at, save_at = self._spread(self.settings.evaluations), self._spread(self.settings.checkpoints)
        started = time.monotonic() - self.progress.seconds
        if fresh:
            self._validate()
        while self.progress.update < self.updates and not self.progress.stopped:
            point = self._update()
            if point is not None:
                each_update(point)
            at_end = self.progress.update == self.updates
            if point is not None and (self.progress.update in evaluate_at or at_end):
                self._validate()
                self.progress.stopped = self._plateau()
            self.progress.seconds = time.monotonic() - started
            if self.progress.update in save_at or at_end or self.progress.stopped:
                self._save(checkpoints)

    # One update ------------------------------------------------------------------------------------------------------
    def _update(self) -> UpdatePoint | None:
        """Answer, score, learn; None, with ``stopped`` set, where nothing may be learnt from the answers."""
        settings, number = self.settings, self.progress.update
        began = time.monotonic()
        places = cycled(len(self.train), settings.prompts_per_update, number, settings.seed)
        answers = self._answer([self.train[place] for place in places], number)
        batch = self.learner.read(answers, number)
        kl_B = ((batch.logp_BT - batch.reference_BT) * batch.mask_BT).sum(1)
        kl = float(kl_B.mean())
        firsts = range(0, len(answers.ids), settings.samples_per_prompt)
        facts = facts_of(
            [answers.ids[i] for i in firsts],
            [answers.finished[i] for i in firsts],
            [not answers.texts[i].strip() for i in firsts],
        )
        changed = collapsed(facts, self.reference_facts(places), settings.stop)
        self.progress.stopped = self.processes.agree(over_budget(kl, settings.kl) or changed)
        if self.progress.stopped:
            return None
        beta = self.control.beta
        score_B = torch.as_tensor(answers.reward_B, dtype=torch.float32)
        reward_BT = token_rewards(score_B, batch.logp_BT, batch.reference_BT, batch.mask_BT, beta)
        learnt = generalized_advantages(
            reward_BT, batch.value_BT, batch.mask_BT, settings.ppo.gamma, settings.ppo.gae_lambda
        )
        if settings.ppo.whiten_advantages:
            learnt = learnt._replace(advantage_BT=whiten(learnt.advantage_BT, batch.mask_BT))
        rate = self._set_learning_rate(number)
        figures = self._learn(batch, learnt)
        self.control.update(kl, len(answers.ids))
        self.progress.update += 1
        self.progress.tokens += answers.tokens
        self.progress.generation_seconds += answers.seconds
        point = UpdatePoint(
            update=self.progress.update,
            episodes=self.progress.update * self.episodes,
            reward=float(answers.reward_B.mean()),
            kl=kl,
            kl_k3=float((kl_k3(batch.logp_BT, batch.reference_BT) * batch.mask_BT).sum(1).mean()),
            beta=beta,
            entropy=batch.entropy,
            explained_variance=explained_variance(batch.value_BT, learnt.return_BT, batch.mask_BT),
            learning_rate=rate,
            length=answers.tokens / len(answers.ids),
            unfinished=1 - sum(answers.finished) / len(answers.ids),
            distinct_bigrams=facts.distinct_bigrams,
            tokens_per_second=answers.tokens / (time.monotonic() - began),
            **figures,
        )
        self.progress.curve.append(point.model_dump())
        return point

    def _answer(self, prompts: Sequence[Prompt], number: int) -> Answers:
        """Answers to the prompts of an update; each process gives its share and hands it to all."""
        mine = self.learner.share(number, len(prompts))
        answers = answer(
            self.policy,
            [prompts[place] for place in mine],
            self.rewards,
            self.settings,
            samples=self.settings.samples_per_prompt,
            seed=(self.settings.seed, number),
            numbers=mine,
        )
        return Answers.of_parts(prompts, self.processes.gather((mine, answers)))

    def _learn(self, batch: Batch, learnt: Advantages) -> dict[str, Any]:
        """The optimizer steps of an update; figures are means over all tokens of all steps that were made."""
        ppo = self.settings.ppo
        sums = dict.fromkeys(LOGGED, 0.0)
        tokens = steps = 0
        norms: list[float] = []
        self.policy.model.train()
        for epoch in range(ppo.epochs):
            seed = (self.settings.seed, self.progress.update, 2, epoch)
            for number in np.random.default_rng(seed).permutation(len(batch.rows)):
                found = self.learner.accumulate(batch, learnt, int(number))
                count = batch.tokens(number)
                limit = ppo.update_kl_limit
                if limit is not None and found["approx_kl"] / count > limit:
                    self.optimizer.zero_grad(set_to_none=True)
                    self.policy.model.eval()
                    return self._figures(sums, tokens, steps, norms)
                self._sum_gradients()
                norm = float(torch.nn.utils.clip_grad_norm_(self.trained.values(), self.settings.max_gradient_norm))
                if not (math.isfinite(norm) and math.isfinite(found["policy_loss"])):
                    raise BadInputError(
                        f"align: update {self.progress.update + 1}: the loss or its gradient is not a finite number; "
                        f"lower align.learning_rate (now {self.settings.learning_rate:g}). The last checkpoint is kept"
                    )
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                norms.append(norm)
                sums = {name: value + found[name] for name, value in sums.items()}
                tokens, steps = tokens + count, steps + 1
        self.policy.model.eval()
        return self._figures(sums, tokens, steps, norms)

    def _sum_gradients(self) -> None:
        if self.processes.count == 1:
            return
        for value in self.trained.values():
            if value.grad is None:  # this process has none of the minibatch
                value.grad = torch.zeros_like(value)
        self.processes.sum_up(value.grad for value in self.trained.values() if value.grad is not None)

    @staticmethod
    def _figures(sums: dict[str, float], tokens: int, steps: int, norms: list[float]) -> dict[str, Any]:
        means = {name: value / max(tokens, 1) for name, value in sums.items()}
        return means | {"optimizer_steps": steps, "gradient_norm": float(np.mean(norms)) if norms else 0.0}

    # Validation ------------------------------------------------------------------------------------------------------
    def _validate(self) -> None:
        """Keep the weights if they are the best yet on the validation prompts."""
        update = self.progress.update
        if update:
            point, samples = validate(
                self.readers, self.validation.prompts, self.rewards, update=update, processes=self.processes
            )
        else:
            unchanged = np.zeros(len(self.validation.ids))
            point, samples = validation_point(self.validation, unchanged, self.settings, update)
        self.progress.validation.append(point.model_dump())
        self.progress.samples += [sample.model_dump() for sample in samples]
        if point.within_budget and point.reward > self.progress.best_reward:
            self.progress.best_reward, self.progress.best_update = point.reward, update
            self.best = self._weights() if self.processes.first else {}

    def _plateau(self) -> str:
        if self.progress.update == self.updates:
            return ""
        return plateau([ValidationRewardPoint(**point) for point in self.progress.validation], self.settings.stop)

    # Weights and checkpoints -----------------------------------------------------------------------------------------
    def _set_learning_rate(self, update: int) -> float:
        left = 1 - update / self.updates if self.settings.schedule == "linear" else 1.0
        rate = self.settings.learning_rate * left
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _spread(self, times: int) -> set[int]:
        return {round(self.updates * (place + 1) / times) for place in range(times)} - {0}

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.trained.items()}

    @torch.no_grad()
    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.trained.items():
            if name in weights:
                value.copy_(weights[name])

    def _about(self) -> dict[str, Any]:
        kept = self.settings.model_dump(mode="json", exclude=PLACES | {"prompts"})
        return {"settings": kept, "prompts": len(self.train), "validation": len(self.validation.prompts)}

    def _save(self, checkpoints: CheckpointFolder) -> None:
        if self.processes.first:
            checkpoints.save(
                {
                    "about": self._about(),
                    "weights": self._weights(),
                    "best": self.best,
                    "optimizer": self.optimizer.state_dict(),
                    "beta": self.control.beta,
                    "progress": asdict(self.progress),
                }
            )
        self.processes.wait()

    def _restore(self, checkpoints: CheckpointFolder) -> int | None:
        state = checkpoints.load(self._about())
        if state is None:
            return None
        self._load_weights(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.control.beta = state["beta"]
        self.progress = PpoProgress(**state["progress"])
        return self.progress.update


def figures_of(progress: PpoProgress) -> tuple[list[UpdatePoint], list[ValidationRewardPoint], list[SampleLine]]:
    """The records of a training as evidence."""
    return (
        [UpdatePoint(**point) for point in progress.curve],
        [ValidationRewardPoint(**point) for point in progress.validation],
        [SampleLine(**sample) for sample in progress.samples],
    )
