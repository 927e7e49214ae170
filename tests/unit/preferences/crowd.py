"""A crowd with planted labelers: reliable ones, random ones, reversed ones, and such as go by position or length."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rewardloop.records import FeedbackGroup
from rewardloop.tables import feedback_frame
from tests.unit.preferences.feedback import choice, group


class Crowd(NamedTuple):
    """``a_is_better``: shape (pairs,); ``kinds``: labeler -> planted kind."""

    frame: pl.DataFrame
    groups: list[FeedbackGroup]
    a_is_better: NDArray[np.bool_]
    kinds: dict[str, str]


def crowd(
    kinds: dict[str, int], *, pairs: int, votes: int = 3, right: float = 0.85, seed: int = 0, segment: str | None = None
) -> Crowd:
    """``votes`` labelers judge each pair.

    Args:
        kinds: how many labelers of each kind: good, random, reversed, first, last, longest.
        pairs, votes: number of pairs, and votes on each.
        right: probability that a good labeler prefers the better answer.
    """
    random = np.random.default_rng(seed)
    names = [f"{kind}-{i}" for kind, count in kinds.items() for i in range(count)]
    a_is_better, a_is_longer = random.random((2, pairs)) < 0.5
    groups = []
    for i in range(pairs):
        labels = []
        for labeler in random.choice(len(names), votes, replace=False):
            kind = names[labeler].split("-")[0]
            correct = (random.random() < right) == a_is_better[i]
            says_a = {
                "good": correct,
                "random": random.random() < 0.5,
                "reversed": not correct,
                "first": True,
                "last": False,
                "longest": a_is_longer[i],
            }[kind]
            labels.append(choice(*("ab" if says_a else "ba"), who=names[labeler]))
        texts = [f"x{i}" + " pad" * bool(a_is_longer[i]), f"y{i}" + " pad" * (not a_is_longer[i])]
        groups.append(group(texts, labels, prompt=f"Question {i}?", segment=segment))
    rows = feedback_frame((f"test:{i}", one) for i, one in enumerate(groups))
    kind_of = {name: name.split("-")[0] for name in names}
    return Crowd(rows.with_columns(batch=pl.lit("batch")), groups, a_is_better, kind_of)
