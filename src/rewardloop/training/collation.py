"""Groups of responses with their pairs, and how a few of them become one padded batch.

In: the ``ITEMS`` and ``PAIRS`` tables of one split. Out: ``Group`` objects (tokens and pairs) and ``Batch`` tensors. A
trainer that packs instead of pads replaces ``pad_groups`` and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rewardloop.modeling.scoring import Encoder, pad
from rewardloop.training.loss import Pairs


@dataclass(frozen=True)
class Group:
    """One training example: K token sequences and the compared pairs among them."""

    group: int
    sequences: tuple[list[int], ...]
    a: tuple[int, ...]
    """Positions inside the group."""
    b: tuple[int, ...]
    p: tuple[float, ...]


@dataclass
class EncodedGroups:
    """The groups of one split and what had to be cut or dropped."""

    groups: list[Group] = field(default_factory=list)
    truncated_prompts: int = 0
    dropped_responses: int = 0
    """Responses longer than ``max_length`` on their own: dropped with their pairs, never cut."""


class Batch(NamedTuple):
    """Padded sequences of several groups, and their pairs."""

    ids_NT: Tensor
    mask_NT: Tensor
    group_N: Tensor
    pairs: Pairs
    groups: int


def encode_groups(items: pl.DataFrame, pairs: pl.DataFrame, encoder: Encoder) -> EncodedGroups:
    """Tokenize one split's groups; groups without a remaining pair are left out.

    Args:
        items: rows of ``ITEMS`` of the split.
        pairs: rows of ``PAIRS`` of the split.
        encoder: prompt and response to tokens.
    """
    result = EncodedGroups()
    used = pl.concat([pairs["a"], pairs["b"]]).unique()
    tokens: dict[int, list[int]] = {}
    needed = items.filter(pl.col("item").is_in(used.implode())).select("item", "prompt", "response")
    for item, prompt, response in needed.iter_rows():
        encoded = encoder(prompt, response)
        result.truncated_prompts += encoded.prompt_cut
        if encoded.ids is None:
            result.dropped_responses += 1
        else:
            tokens[item] = encoded.ids
    kept = pairs.filter(pl.col("a").is_in(list(tokens)) & pl.col("b").is_in(list(tokens)))
    by_group = kept.sort("group", "a", "b").group_by("group", maintain_order=True).agg("a", "b", "p")
    for group, first, second, p in by_group.iter_rows():
        members = sorted({*first, *second})
        place = {item: position for position, item in enumerate(members)}
        result.groups.append(
            Group(
                group=group,
                sequences=tuple(tokens[item] for item in members),
                a=tuple(place[item] for item in first),
                b=tuple(place[item] for item in second),
                p=tuple(p),
            )
        )
    return result


def pad_groups(groups: Sequence[Group], pad_id: int) -> Batch:
    """One padded row per response; N responses, T tokens of the longest."""
    sizes = [len(group.sequences) for group in groups]
    offsets = np.cumsum([0, *sizes[:-1]])
    ids_NT, mask_NT = pad([sequence for group in groups for sequence in group.sequences], pad_id)

    def flat(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)

    return Batch(
        ids_NT=ids_NT,
        mask_NT=mask_NT,
        group_N=torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(sizes)),
        pairs=Pairs(
            a_P=flat([int(start) + a for start, group in zip(offsets, groups, strict=True) for a in group.a]),
            b_P=flat([int(start) + b for start, group in zip(offsets, groups, strict=True) for b in group.b]),
            p_P=torch.tensor([p for group in groups for p in group.p], dtype=torch.float32),
            group_P=flat([index for index, group in enumerate(groups) for _ in group.a]),
        ),
        groups=len(groups),
    )
