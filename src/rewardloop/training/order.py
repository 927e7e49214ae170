"""Which groups an optimizer step sees, and when something else happens: seeded, and the same after a resume."""

import math
from collections.abc import Sequence

import numpy as np

from rewardloop.training.collation import Group


def sample(groups: Sequence[Group], at_most: int | None, seed: int) -> list[Group]:
    """A seeded sample in the given order; all of them where there are no more than ``at_most``."""
    if at_most is None or len(groups) <= at_most:
        return list(groups)
    chosen = np.random.default_rng(seed).choice(len(groups), at_most, replace=False)
    return [groups[index] for index in np.sort(chosen)]


class Order:
    """A new seeded shuffle of the groups in every epoch."""

    def __init__(self, groups: int, groups_per_step: int, epochs: float, seed: int) -> None:
        self.groups = groups
        self.groups_per_step = groups_per_step
        self.seed = seed
        self.steps_per_epoch = math.ceil(groups / groups_per_step)
        self.steps = max(1, math.ceil(self.steps_per_epoch * epochs))

    def places(self, step: int) -> list[int]:
        """Positions of the groups of ``step``, counted from 0; the last step of an epoch may have fewer."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.groups)
        start = place * self.groups_per_step
        return [int(index) for index in order[start : start + self.groups_per_step]]

    def spread(self, times: int) -> set[int]:
        """``times`` numbers of finished steps, evenly spaced, the last of them all."""
        return {round(self.steps * (index + 1) / times) for index in range(times)} - {0}


def cycled(count: int, size: int, step: int, seed: int) -> list[int]:
    """``size`` positions below ``count`` for ``step``: shuffled passes one after the other, whatever the sizes."""
    passes: dict[int, list[int]] = {}
    places = []
    for index in range(step * size, (step + 1) * size):
        epoch, place = divmod(index, count)
        if epoch not in passes:
            passes[epoch] = np.random.default_rng((seed, epoch)).permutation(count).tolist()
        places.append(int(passes[epoch][place]))
    return places
