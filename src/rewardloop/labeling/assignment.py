"""Who labels which item: every item by n different labelers, loads alike, and enough of them shared by every two.

In: how many items, labelers and labelers per item. Out: the labelers of each item. Which two labelers meet on how many
items is what their agreement is measured by (a balanced incomplete block design, where one exists). A greedy choice
serves any numbers: of the labelers with least work those are taken who are not yet connected to each other, then those
who met least.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rewardloop.errors import BadInputError

_EXCHANGES = 20_000
_TRIES = 9


class Assignment(NamedTuple):
    """``of_item``: positions of each item's labelers, in the order in which they were chosen."""

    of_item: list[tuple[int, ...]]
    shared: NDArray[np.int64]
    """(labelers, labelers): items that two labelers share; on the diagonal what each has."""

    @property
    def least_shared(self) -> int:
        """Items that the two labelers share who share least; 0 for one labeler."""
        count = len(self.shared)
        return int(self.shared[~np.eye(count, dtype=bool)].min()) if count > 1 else 0

    @property
    def connected(self) -> bool:
        """Whether any two labelers can be compared, if need be through others."""
        return len(set(_components(self.shared))) == 1


def assign(items: int, labelers: int, per_item: int, seed: int) -> Assignment:
    """Choose ``per_item`` different labelers for each item; loads differ by one at most.

    Raises:
        BadInputError: there are fewer labelers than each item needs.
    """
    if per_item > labelers:
        raise BadInputError(
            f"--labelers {per_item}: only {labelers} annotators are named (--annotators); name more, or ask fewer"
        )
    random = np.random.default_rng(seed)
    shared = np.zeros((labelers, labelers), dtype=np.int64)
    component = list(range(labelers))
    chosen_of = []
    for _ in range(items):
        chosen: list[int] = []
        for _ in range(per_item):
            chosen.append(_next(chosen, shared, component, random.random(labelers)))
        for one in chosen:
            shared[one, one] += 1
        for one, other in combinations(chosen, 2):
            shared[one, other] += 1
            shared[other, one] += 1
        _join(component, chosen)
        chosen_of.append(tuple(chosen))
    greedy = Assignment(chosen_of, shared)
    if greedy.least_shared >= items * per_item * (per_item - 1) // (labelers * max(1, labelers - 1)):
        return greedy
    better = _exchanged(greedy, random)
    return better if better.connected >= greedy.connected else greedy


def items_needed(labelers: int, per_item: int, least: int, seed: int) -> int | None:
    """Items of which ``assign`` gives every two labelers ``least`` or more; None where it could not be found.

    On average that many are shared by fewer; but not all meetings can be even, and what is said must hold when it is
    done. So it is tried, with steps that grow: the answer may be a little more than the least that would do.
    """
    pairs = per_item * (per_item - 1)
    if not pairs:
        return None
    items = -(-least * labelers * (labelers - 1) // pairs)
    step = max(1, items // 200)
    for _ in range(_TRIES):
        if assign(items, labelers, per_item, seed).least_shared >= least:
            return items
        items += step
        step *= 2
    return None


def _exchanged(start: Assignment, random: np.random.Generator) -> Assignment:
    """Let two items exchange a labeler wherever that makes meetings more even; loads stay as they are."""
    of_item, shared = [list(chosen) for chosen in start.of_item], start.shared.copy()
    for _ in range(min(_EXCHANGES, 50 * shared.trace())):
        i, j = (int(one) for one in random.integers(len(of_item), size=2))
        a, b = (int(random.choice(of_item[place])) for place in (i, j))
        if a in of_item[j] or b in of_item[i]:
            continue
        with_a, with_b = ([one for one in of_item[place] if one != own] for place, own in ((i, a), (j, b)))
        # What it adds to the sum of squares over all meetings: (s + 1)^2 - s^2 + (t - 1)^2 - t^2 for each that changes.
        added = sum(
            2 * (int(shared[new, other]) - int(shared[old, other])) + 2
            for others, old, new, same in ((with_a, a, b, with_b), (with_b, b, a, with_a))
            for other in others
            if other not in same
        )
        if added > 0:
            continue
        for others, old, new in ((with_a, a, b), (with_b, b, a)):
            for change, who in ((-1, old), (1, new)):
                shared[who, others] += change
                shared[others, who] += change
        of_item[i], of_item[j] = [*with_a, b], [*with_b, a]
    return Assignment([tuple(chosen) for chosen in of_item], shared)


def _next(
    chosen: Sequence[int], shared: NDArray[np.int64], component: Sequence[int], noise: NDArray[np.float64]
) -> int:
    loads = shared.diagonal()
    free = [one for one in range(len(loads)) if one not in chosen]
    least = min(int(loads[one]) for one in free)
    known = {component[one] for one in chosen}

    def cost(one: int) -> tuple[float, ...]:
        size = component.count(component[one])
        met = [int(shared[one, other]) for other in chosen]
        return component[one] in known, sum(met), size, float(noise[one])

    return min((one for one in free if loads[one] == least), key=cost)


def _join(component: list[int], chosen: Sequence[int]) -> None:
    joined = {component[one] for one in chosen}
    first = min(joined)
    component[:] = [first if one in joined else one for one in component]


def _components(shared: NDArray[np.int64]) -> list[int]:
    component = list(range(len(shared)))
    for one, other in zip(*np.nonzero(shared), strict=True):
        _join(component, [int(one), int(other)])
    return component
