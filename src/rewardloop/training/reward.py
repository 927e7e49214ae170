"""Training of a reward model on groups: one loop, resumable at the exact step, stopped by the validation split.

In: a model with its trainable weights chosen, encoded groups, ``TrainingSettings``. Out: the weights of the best
validation loss, and a ``RewardTraining`` that tells how it went. On one CPU machine two runs with the same seed give
the same weights; on several processes, or with other batches, the same losses up to rounding.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rewardloop.config import TrainingSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.reward_model import scoring_module
from rewardloop.modeling.scoring import decoder_layers, leave_parts_uncompiled, prepare_reading
from rewardloop.training.batching import plan
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import Batch, Group, collate
from rewardloop.training.frozen import FrozenGroups
from rewardloop.training.hardware import Work, choose_precision, keep_freed_memory, measure_usage
from rewardloop.training.loss import Objective, group_loss
from rewardloop.training.order import Order, sample
from rewardloop.training.processes import Processes
from rewardloop.training.progress import Progress, RewardTraining, Sums
from rewardloop.training.reader import (
    TOKENS_PER_BATCH,
    TOKENS_PER_BATCH_CUDA,
    Reader,
    is_out_of_memory,
    models_own_names,
)
from rewardloop.training.resumption import Resumption, about
from rewardloop.training.state import Weights, set_trained_weights, trained_weights

_CURVE_POINTS = 200


class RewardTrainer:
    """The loop of one training run."""

    def __init__(
        self,
        model: Any,
        pad_id: int,
        settings: TrainingSettings,
        *,
        train: Sequence[Group],
        validation: Sequence[Group],
        max_length: int,
        watched: Sequence[Group] = (),
    ) -> None:
        if not train or not validation:
            raise BadInputError("no group with a compared pair is left to train on or to validate with; add feedback")
        self.settings = settings
        self.pad_id = pad_id
        self.processes = Processes(settings)
        self.device = self.processes.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.precision = choose_precision(settings.precision, self.device)
        self.model = model.to(self.device)
        self.reading = prepare_reading(scoring_module(model), max_length=max_length, pad_id=pad_id)
        self.train = sample(train, settings.max_groups, settings.seed)
        self.validation = sample(validation, settings.validation_groups, settings.seed)
        self.watched = [*self.validation, *watched]
        """Groups whose pairs are counted before the first step and after the last."""
        self.right_after: list[int] = []
        self.budget = self._budget()
        votes = [count for group in self.train for count in group.votes or [1.0] * len(group.a)]
        ages = [weight for group in self.train for weight in group.weight or [1.0] * len(group.a)]
        self.objective = Objective.of(settings, float(np.mean(votes)), float(np.mean(ages)))
        self.order = Order(len(self.train), settings.groups_per_step, settings.epochs, settings.seed)
        self.steps = self.order.steps
        self.trained_parameters = sum(value.numel() for value in model.parameters() if value.requires_grad)
        self.frozen = FrozenGroups(model)
        self.keeps_frozen = self._fits_frozen()
        self.work = Work(model, self.frozen.count if self.keeps_frozen else 0)
        if settings.compile:
            leave_parts_uncompiled()
            for layer in decoder_layers(scoring_module(model)):
                layer.compile(dynamic=True)
        reader = Reader(model, self.reading, self._autocast)
        optimizer = torch.optim.AdamW(
            [value for value in reader.parameters() if value.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.reader, self.optimizer = self.processes.prepare(reader, optimizer)
        self.scheduler = self._scheduler()
        self.progress = Progress()
        self.best: Weights = {}
        self._hidden: dict[int, Tensor] = {}
        self._before = (0.0, 0.0)
        """Seconds and operations of what was computed before the first step."""

    def run(
        self,
        checkpoints: CheckpointFolder,
        *,
        each_step: Callable[[int, float], object] = lambda step, loss: None,
        may_stay: bool = False,
    ) -> RewardTraining:
        """Train to the end, from the checkpoint if there is one.

        The model then has the best weights; ``best_weights`` has them whole, also where the model is sharded.

        Args:
            checkpoints: where to continue from and to save to.
            each_step: told the number and loss of every step.
            may_stay: whether the weights before the first step may turn out to be the best; then the watched groups
                are counted too.

        Raises:
            BadInputError: the loss is not a finite number (the last good checkpoint stays), memory is used up, or the
                checkpoint is of another training.
        """
        resumption = Resumption(
            checkpoints,
            about(self.settings, groups=len(self.train), trained_parameters=self.trained_parameters),
            model=self.reader,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            processes=self.processes,
        )
        try:
            with ExitStack() as stack:
                if self.keeps_frozen:
                    self._compute_frozen()
                    stack.enter_context(self.frozen.skipped())
                restored = resumption.restore()
                if restored is not None:
                    self.progress, self.best = restored
                resumed = self.progress.step if restored is not None else None
                self.progress.seconds += self._before[0]
                self.progress.operations += self._before[1]
                if may_stay and resumed is None:
                    self._validate()
                    self.progress.right_before = self._count_right()
                self._loop(resumption, each_step)
                if self.best or self.processes.count > 1:
                    set_trained_weights(self.reader, self.best)
                if may_stay:
                    self.right_after = self._count_right()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise BadInputError(
                f"training: out of memory at step {self.progress.step + 1}: lower training.tokens_per_batch (now "
                f"{self.budget:,}), or set training.gradient_checkpointing: true"
            ) from error
        if math.isinf(self.progress.best_loss):
            checkpoints.clear()
            raise BadInputError(
                "training: the validation loss was never a finite number, the training diverged; lower "
                f"training.learning_rate (now {self.settings.learning_rate:g})"
            )
        return self._result(resumed)

    def best_weights(self) -> Weights:
        """The best trained weights by the model's own names; in the first process."""
        return models_own_names(self.best)

    def _loop(self, resumption: Resumption, each_step: Callable[[int, float], object]) -> None:
        self.reader.train()
        evaluate_at = self.order.spread(self.settings.evaluations)
        save_at = self.order.spread(self.settings.checkpoints)
        window: list[tuple[float, float, float]] = []
        started = time.monotonic() - self.progress.seconds
        while self.progress.step < self.steps and not self.progress.stopped_early:
            window.append(self._step(self.order.places(self.progress.step)))
            self.progress.step += 1
            each_step(self.progress.step, window[-1][0])
            if self.progress.step in evaluate_at:
                self._validate()
            at_end = self.progress.step == self.steps or self.progress.stopped_early
            if at_end or self.progress.step % max(1, self.steps // _CURVE_POINTS) == 0:
                self.progress.plot(window, float(self.scheduler.get_last_lr()[0]))
                window = []
            self.progress.seconds = time.monotonic() - started
            if self.progress.step in save_at or at_end:
                resumption.save(self.progress, self.best)

    def _step(self, places: Sequence[int]) -> tuple[float, float, float]:
        """One optimizer step; the gradient is that of the mean over the step's groups, wherever they were computed."""
        groups = [self.train[place] for place in places]
        rows = self._rows(groups)
        sums = Sums()
        tokens = positions = 0
        for number, (row, counts) in enumerate(rows):
            last = number == len(rows) - 1
            batch = self._collate([groups[i] for i in row], [places[i] for i in row])
            with nullcontext() if last or self.processes.count == 1 else self.processes.no_sync(self.reader):
                loss = self._add(batch, counts, sums)
                # Processes average their gradients; the loss is a mean over the groups of all of them.
                (loss * (counts * self.processes.count / len(groups))).backward()  # type: ignore[no-untyped-call]
            tokens, positions = tokens + batch.tokens * counts, positions + batch.positions * counts
        sums = self._together(sums)
        norm = self.processes.clip(self.reader, self.settings.max_gradient_norm)
        if not (math.isfinite(sums.loss) and math.isfinite(norm)):
            self._stop(groups, sums.loss / len(groups), norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens, positions = map(int, self.processes.total(tokens, positions))
        self.progress.tokens += tokens
        self.progress.positions += positions
        self.progress.operations += self.work.of([block for group in groups for block in group.blocks], tokens)
        return sums.loss / len(groups), sums.accuracy, sums.mean_margin

    def _rows(self, groups: Sequence[Group]) -> list[tuple[list[int], int]]:
        """This process's batches, each with 1, or 0 where it only keeps pace with other processes."""
        plans = plan([group.size(self.reading) for group in groups], self.budget, self.processes.count)
        mine, longest = plans[self.processes.rank], max(map(len, plans))
        # Sharded weights are gathered by all processes together, so each needs as many batches as the others.
        return [(row, 1) for row in mine] + [((mine or [[0]])[0], 0)] * (longest - len(mine))

    def _collate(self, groups: Sequence[Group], keys: Sequence[int]) -> Batch:
        batch = collate(groups, self.reading, self.pad_id)
        if self._hidden:
            hidden = torch.cat([self._hidden[key] for key in keys])
            padding = batch.positions - len(hidden)
            self.frozen.begin_with(nn.functional.pad(hidden, (0, 0, 0, padding)).to(self.device))
        return batch

    def _add(self, batch: Batch, counts: int, sums: Sums) -> Tensor:
        """Sum of the losses of a batch's groups; what it shows is added to ``sums`` if it ``counts``."""
        scores = self.reader(batch.rows.to(self.device))
        result = group_loss(
            scores, batch.pairs.to(self.device), batch.group_N.to(self.device), batch.groups, self.objective
        )
        loss = result.loss_G.sum()
        if counts:
            decided = ~result.accuracy_G.isnan()
            sums.loss += float(loss.detach())
            sums.right += float(result.accuracy_G[decided].sum())
            sums.margin += float(result.margin_G[decided].sum())
            sums.decided += float(decided.sum())
        return loss

    def _together(self, sums: Sums) -> Sums:
        return Sums(*self.processes.total(sums.loss, sums.right, sums.margin, sums.decided))

    @torch.no_grad()
    def _validate(self) -> None:
        self.reader.eval()
        sums = Sums()
        for row, counts in self._rows(self.validation):
            batch = self._collate([self.validation[i] for i in row], [len(self.train) + i for i in row])
            self._add(batch, counts, sums)
        self.reader.train()
        if self.progress.validated(self._together(sums), len(self.validation), self.settings.patience):
            self.best = trained_weights(self.reader)

    @torch.no_grad()
    def _count_right(self) -> list[int]:
        """Decided pairs in the right order, per watched group; every process counts all of them."""
        self.reader.eval()
        right = [0] * len(self.watched)
        for row in plan([group.size(self.reading) for group in self.watched], self.budget, 1)[0]:
            batch = self._collate([self.watched[i] for i in row], [len(self.train) + i for i in row])
            scores = self.reader(batch.rows.to(self.device)).cpu()
            pairs = batch.pairs
            correct = ((scores[pairs.a_P] > scores[pairs.b_P]) == (pairs.p_P > 0.5)) & (pairs.p_P != 0.5)
            for number, place in enumerate(row):
                right[place] = int(correct[pairs.group_P == number].sum())
        self.reader.train()
        return right

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _scheduler(self) -> Any:
        from transformers import get_scheduler

        warmup = round(self.steps * self.settings.warmup_share)
        return get_scheduler(
            self.settings.schedule, self.optimizer, num_warmup_steps=warmup, num_training_steps=self.steps
        )

    def _budget(self) -> int:
        """Tokens that go through the model at once."""
        largest = max([*self.train, *self.watched], key=lambda group: group.size(self.reading))
        size = largest.size(self.reading)
        wanted = self.settings.tokens_per_batch
        if wanted is None:
            defaults = TOKENS_PER_BATCH_CUDA if self.device.type == "cuda" else TOKENS_PER_BATCH
            return max(size, defaults[self.reading.kind])
        if size > wanted:
            raise BadInputError(
                f"training.tokens_per_batch: found {wanted:,}; group {largest.group} of {largest.responses} responses "
                f"has {size:,} tokens, and a group is never split. Raise it to {size:,} at least, lower "
                "model.max_length, or leave it out"
            )
        return wanted

    def _fits_frozen(self) -> bool:
        if not self.frozen.count or self.reading.kind == "padded" or self.processes.count > 1:
            return False
        needed = self.frozen.bytes_needed([*self.train, *self.watched], self.reading)
        return needed <= self.settings.frozen_cache_gb * 1e9

    def _compute_frozen(self) -> None:
        started = time.monotonic()
        groups = [*self.train, *self.watched]
        self.model.eval()
        self._hidden = self.frozen.compute(groups, self.reading, self.device, self._autocast)
        tokens = sum(group.size(self.reading) for group in groups)
        self._before = (time.monotonic() - started, self.work.skipped_per_token * tokens)

    def _stop(self, groups: Sequence[Group], loss: float, norm: float) -> None:
        names = ", ".join(str(group.group) for group in groups)
        what = f"the loss is {loss:g}" if not math.isfinite(loss) else f"the norm of the gradient is {norm:g}"
        raise BadInputError(
            f"training: {what} at step {self.progress.step + 1}, groups {names} of the training split. The weights "
            "before it are kept in the last checkpoint; lower training.learning_rate (now "
            f"{self.settings.learning_rate:g}), or set training.precision: float32"
        )

    def _result(self, resumed: int | None) -> RewardTraining:
        rate = self.progress.operations / max(self.progress.seconds, 1e-9)
        return RewardTraining.of(
            self.progress,
            measure_usage(self.device, self.precision, self.processes.count, rate=rate),
            self.reading,
            resumed_from_step=resumed,
            frozen_layers_kept=self.frozen.count if self.keeps_frozen else 0,
        )
