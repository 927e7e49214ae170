"""Ranks as files write them.

In: a value. Out: a whole number, checked.
"""

from typing import Any

from rewardloop.feedback.importers.base import RowError
from rewardloop.feedback.importers.table import number, shown


def rank_of(value: Any, name: str, *, best: int = 1) -> int:
    """The rank in ``value``; ``name`` is what the reason calls it, ``best`` the number of the first rank.

    Raises:
        RowError: it is no whole number of at least ``best``.
    """
    expected = f"expected {best} (the best), {best + 1}, {best + 2} and so on"
    try:
        rank = number(value, name, None)  # of limited size, too
    except RowError:
        raise RowError(f"{name}: found {shown(value)}; {expected}") from None
    if rank < best or rank != int(rank):
        raise RowError(f"{name}: found {rank:g}; {expected}")
    return int(rank)
