"""Which groups of an optimizer step go through the model together, and on which process.

In: the sizes of the step's groups, in tokens. Out: for each process its batches, lists of positions in the step. The
window in which rows are filled is the step itself: how many tokens a row holds, or how many processes train, never
changes which groups share a step, so the loss curve stays the same.
"""

import heapq
from collections.abc import Sequence


def share_out(sizes: Sequence[int], processes: int) -> list[list[int]]:
    """Positions for each process, the work as even as can be: the largest first, to whoever has least (Graham 1969)."""
    loads = [(0, process) for process in range(processes)]
    shares: list[list[int]] = [[] for _ in range(processes)]
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        load, process = heapq.heappop(loads)
        shares[process].append(place)
        heapq.heappush(loads, (load + sizes[place], process))
    return [sorted(share) for share in shares]


def first_fit(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Fill rows of ``budget`` tokens, the largest first, each into the first row with room (Johnson 1973).

    What is larger than the budget gets a row of its own.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        row = next((number for number, left in enumerate(room) if sizes[place] <= left), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(budget)
        rows[row].append(place)
        room[row] -= sizes[place]
    return [sorted(row) for row in rows]


def plan(sizes: Sequence[int], budget: int, processes: int) -> list[list[list[int]]]:
    """Batches per process.

    Processes may get different numbers of batches, and none where there are fewer groups than processes.
    """
    return [
        [[share[place] for place in row] for row in first_fit([sizes[place] for place in share], budget)]
        for share in share_out(sizes, processes)
    ]
