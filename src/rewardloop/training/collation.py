"""Groups of responses with their pairs, and how a few of them become one batch.

In: the ``ITEMS`` and ``PAIRS`` tables of one split. Out: ``Group``s (tokens and pairs) and ``Batch``es: one packed row
of whole groups, or, for a base that cannot be packed, one padded row per response.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rewardloop.modeling.scoring import Block, Encoded, Encoder, PackedRow, Reading, pack, pad, share_prompts
from rewardloop.training.loss import Pairs


@dataclass(frozen=True)
class Group:
    """One training example: K responses, prompts shared where they are equal, and the compared pairs."""

    group: int
    blocks: tuple[Block, ...]
    a: tuple[int, ...]
    """Positions among the group's responses, in the order of the blocks."""
    b: tuple[int, ...]
    p: tuple[float, ...]
    """Probability that a is better."""
    votes: tuple[float, ...] = ()
    """Comparisons behind each p; empty: one each."""
    gap: tuple[float, ...] = ()
    """Rating of a minus rating of b; empty, or NaN: not rated."""
    weight: tuple[float, ...] = ()
    """What each pair counts by the age of its labels; empty: 1 each."""

    @property
    def responses(self) -> int:
        """K."""
        return sum(len(block.responses) for block in self.blocks)

    def size(self, reading: Reading) -> int:
        """Tokens that go through the model for this group, padding included."""
        if reading.kind == "padded":
            return self.responses * max(
                len(block.prompt) + len(response) for block in self.blocks for response in block.responses
            )
        return sum(block.tokens for block in self.blocks)


@dataclass
class EncodedGroups:
    """The groups of one split and what had to be cut or dropped."""

    groups: list[Group] = field(default_factory=list)
    truncated_prompts: int = 0
    dropped_responses: int = 0
    """Responses longer than ``max_length`` on their own: dropped with their pairs, never cut."""


class PaddedRows(NamedTuple):
    """One right-padded row per response."""

    ids_RT: Tensor
    mask_RT: Tensor

    def to(self, device: torch.device) -> "PaddedRows":
        """The same rows on ``device``."""
        return PaddedRows(self.ids_RT.to(device), self.mask_RT.to(device))


class Batch(NamedTuple):
    """Whole groups that go through the model together."""

    rows: PackedRow | PaddedRows
    pairs: Pairs
    group_N: Tensor
    """Number of the group, 0 to groups - 1, of each response."""
    groups: int
    tokens: int
    """Without padding; a shared prompt counts once."""
    positions: int
    """With padding."""


def encode_groups(items: pl.DataFrame, pairs: pl.DataFrame, encoder: Encoder) -> EncodedGroups:
    """Tokenize one split's groups; groups without a remaining pair are left out.

    Args:
        items: rows of ``ITEMS`` of the split.
        pairs: rows of ``PAIRS`` of the split.
        encoder: prompt and response to tokens.
    """
    result = EncodedGroups()
    used = pl.concat([pairs["a"], pairs["b"]]).unique()
    tokens: dict[int, Encoded] = {}
    rating: dict[int, float] = {}
    needed = items.filter(pl.col("item").is_in(used.implode())).select("item", "prompt", "response", "rating")
    for item, prompt, response, value in needed.iter_rows():
        encoded = encoder(prompt, response)
        if encoded is None:
            result.dropped_responses += 1
        else:
            result.truncated_prompts += encoded.prompt_cut
            tokens[item] = encoded
            rating[item] = np.nan if value is None else value
    kept = pairs.filter(pl.col("a").is_in(list(tokens)) & pl.col("b").is_in(list(tokens)))
    aged = "weight" in kept.columns and bool((kept["weight"] != 1).any())
    if not aged:
        kept = kept.with_columns(pl.lit(None, pl.Float64).alias("weight"))
    by_group = kept.sort("group", "a", "b").group_by("group", maintain_order=True).agg("a", "b", "p", "votes", "weight")
    for group, first, second, p, votes, weight in by_group.iter_rows():
        members = sorted({*first, *second})
        blocks, order = share_prompts([(tokens[item].prompt, tokens[item].response) for item in members])
        place = {members[position]: number for number, position in enumerate(order)}
        result.groups.append(
            Group(
                group=group,
                blocks=tuple(blocks),
                a=tuple(place[item] for item in first),
                b=tuple(place[item] for item in second),
                p=tuple(p),
                votes=tuple(1.0 if count is None else count for count in votes),
                gap=tuple(rating[i] - rating[j] for i, j in zip(first, second, strict=True)),
                weight=tuple(1.0 if value is None else value for value in weight) if aged else (),
            )
        )
    return result


def collate(groups: Sequence[Group], reading: Reading, pad_id: int) -> Batch:
    """Put whole groups into one batch, as the model is read."""
    blocks = [block for group in groups for block in group.blocks]
    sizes = [group.responses for group in groups]
    rows: PackedRow | PaddedRows
    if reading.kind == "padded":
        sequences = [[*block.prompt, *response] for block in blocks for response in block.responses]
        rows = PaddedRows(*pad(sequences, pad_id))
        tokens, positions = sum(map(len, sequences)), rows.ids_RT.numel()
    else:
        rows = pack(blocks, pad_id, multiple=reading.multiple)
        tokens, positions = sum(block.tokens for block in blocks), len(rows.ids_T)
    return Batch(
        rows=rows,
        pairs=_pairs(groups, np.cumsum([0, *sizes[:-1]])),
        group_N=torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(sizes)),
        groups=len(groups),
        tokens=tokens,
        positions=positions,
    )


def _pairs(groups: Sequence[Group], offsets: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Pairs:
    def flat(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)

    def numbers(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    return Pairs(
        a_P=flat([int(start) + a for start, group in zip(offsets, groups, strict=True) for a in group.a]),
        b_P=flat([int(start) + b for start, group in zip(offsets, groups, strict=True) for b in group.b]),
        p_P=numbers([p for group in groups for p in group.p]),
        group_P=flat([index for index, group in enumerate(groups) for _ in group.a]),
        votes_P=numbers([votes for group in groups for votes in group.votes or [1.0] * len(group.a)]),
        gap_P=numbers([gap for group in groups for gap in group.gap or [np.nan] * len(group.a)]),
        weight_P=numbers([weight for group in groups for weight in group.weight or [1.0] * len(group.a)])
        if any(group.weight for group in groups)
        else None,
    )
