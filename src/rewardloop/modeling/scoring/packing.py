"""Several prompts, each once with its responses, in one row of tokens.

In: ``Block``s (a prompt and the responses that continue it). Out: a ``PackedRow``: token ids, position ids in which
every response continues its prompt, who may see whom, and where each response ends. A token sees its own prompt and its
own response up to itself; responses never see each other and blocks never see each other, so each response gets the
score it has alone.

Shapes: T tokens of the row, N responses, L tokens of one part of the row.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_PROMPT = -1
_SMALL = 128
"""Blocks are attended to together up to so many tokens: that costs less than one more call."""
_LARGE = 256
"""From so many tokens on, each response of a block is attended to by itself, with its prompt."""


class Part(NamedTuple):
    """Queries that are attended to in one call, and the keys they may see: those of ``prompt``, then their own."""

    start: int
    end: int
    prompt: tuple[int, int] | None = None
    """First token and end of the prompt, where it is no part of the queries."""


class Block(NamedTuple):
    """One prompt, which may be empty, and the responses that continue it."""

    prompt: Sequence[int]
    responses: tuple[Sequence[int], ...]

    @property
    def tokens(self) -> int:
        """Tokens of the prompt, once, and of all responses."""
        return len(self.prompt) + sum(map(len, self.responses))


class PackedRow:
    """One row of blocks, and what its tokens may see."""

    def __init__(self, ids_T: Tensor, position_T: Tensor, block_T: Tensor, owner_T: Tensor, last_N: Tensor) -> None:
        self.ids_T = ids_T
        self.position_T = position_T
        self.block_T = block_T
        """Number of the block; padding is a block of its own."""
        self.owner_T = owner_T
        """Number of the response in the row; -1 for prompts and padding."""
        self.last_N = last_N
        """Index of the token at which each response's score is read."""
        self.parts: list[Part] = []
        """Together all tokens of the row, in their order."""
        self._masks: dict[tuple[str, int | None], object] = {}

    def to(self, device: torch.device) -> "PackedRow":
        """The same row on ``device``."""
        tensors = (self.ids_T, self.position_T, self.block_T, self.owner_T, self.last_N)
        row = PackedRow(*(tensor.to(device, non_blocking=True) for tensor in tensors))
        row.parts = self.parts
        return row

    def visible(self, queries_L: Tensor, keys_M: Tensor, window: int | None = None) -> Tensor:
        """Which tokens see which, bool of shape (L, M), by index in the row; ``window`` counts positions."""
        seen = (
            (keys_M[None, :] <= queries_L[:, None])
            & (self.block_T[keys_M][None, :] == self.block_T[queries_L][:, None])
            & (
                (self.owner_T[keys_M][None, :] == _PROMPT)
                | (self.owner_T[keys_M][None, :] == self.owner_T[queries_L][:, None])
            )
        )
        if window is not None:
            seen &= self.position_T[queries_L][:, None] - self.position_T[keys_M][None, :] < window
        return seen

    def part_masks(self, window: int | None) -> list[Tensor]:
        """One mask per part, bool of shape (queries, keys); made once for all layers."""
        key = ("parts", window)
        if key not in self._masks:
            index_T = torch.arange(len(self.ids_T), device=self.ids_T.device)
            masks = []
            for start, end, prompt in self.parts:
                own = index_T[start:end]
                keys = own if prompt is None else torch.cat([index_T[slice(*prompt)], own])
                masks.append(self.visible(own, keys, window))
            self._masks[key] = masks
        return self._masks[key]  # type: ignore[return-value]

    def block_mask(self, window: int | None) -> object:
        """FlexAttention's sparse mask of the whole row; made once for all layers."""
        from torch.nn.attention.flex_attention import create_block_mask

        key = ("flex", window)
        if key not in self._masks:
            block_T, owner_T, position_T = self.block_T, self.owner_T, self.position_T

            def sees(batch: Tensor, head: Tensor, query: Tensor, seen: Tensor) -> Tensor:
                shared = (owner_T[seen] == _PROMPT) | (owner_T[seen] == owner_T[query])
                allowed = (seen <= query) & (block_T[seen] == block_T[query]) & shared
                return allowed if window is None else allowed & (position_T[query] - position_T[seen] < window)

            length = len(self.ids_T)
            self._masks[key] = create_block_mask(sees, None, None, length, length, device=self.ids_T.device)
        return self._masks[key]


def pack(blocks: Sequence[Block], pad_id: int, *, multiple: int = 1) -> PackedRow:
    """Put ``blocks`` into one row, in their order; padded to a multiple of ``multiple`` tokens."""
    ids: list[int] = []
    positions: list[int] = []
    numbers: list[int] = []
    owners: list[int] = []
    last: list[int] = []
    parts: list[Part] = []
    for number, (prompt, responses) in enumerate(blocks):
        start = len(ids)
        ids.extend(prompt)
        positions.extend(range(len(prompt)))
        owners.extend([_PROMPT] * len(prompt))
        for response in responses:
            owners.extend([len(last)] * len(response))
            positions.extend(range(len(prompt), len(prompt) + len(response)))
            ids.extend(response)
            # A response without tokens is read where its prompt ends.
            last.append(len(ids) - 1 if response else start + len(prompt) - 1)
        numbers.extend([number] * (len(ids) - start))
        _add_parts(parts, start, len(prompt), list(map(len, responses)))
    padding = -len(ids) % multiple
    if padding:
        parts.append(Part(len(ids), len(ids) + padding))
        ids.extend([pad_id] * padding)
        positions.extend(range(padding))
        numbers.extend([len(blocks)] * padding)
        owners.extend([_PROMPT] * padding)
    row = PackedRow(*(torch.tensor(values, dtype=torch.int64) for values in (ids, positions, numbers, owners, last)))
    row.parts = parts
    return row


def _add_parts(parts: list[Part], start: int, prompt: int, responses: Sequence[int]) -> None:
    end = start + prompt + sum(responses)
    if prompt and end - start > _LARGE and len(responses) > 1:
        parts.append(Part(start, start + prompt))
        place = start + prompt
        for length in filter(None, responses):
            parts.append(Part(place, place + length, (start, start + prompt)))
            place += length
    elif parts and parts[-1].prompt is None and end - parts[-1].start <= _SMALL:
        parts[-1] = Part(parts[-1].start, end)
    else:
        parts.append(Part(start, end))


def share_prompts(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[list[Block], list[int]]:
    """Put the responses to equal prompts together; a response without prompt is a block of its own.

    Args:
        sequences: (prompt, response) as tokens. Prompts that were cut differently are different prompts.

    Returns:
        the blocks, and for each of their responses, in order, the position of its sequence.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    for place, (prompt, _) in enumerate(sequences):
        members.setdefault(tuple(prompt) or (_PROMPT, place), []).append(place)
    blocks = [
        Block(sequences[places[0]][0], tuple(sequences[place][1] for place in places)) for places in members.values()
    ]
    return blocks, [place for places in members.values() for place in places]


def split_blocks(blocks: Sequence[Block], budget: int) -> list[Block]:
    """Blocks of at most ``budget`` tokens where that is possible: a prompt comes again with other responses."""
    result = []
    for block in blocks:
        start, tokens = 0, len(block.prompt)
        for end, response in enumerate(block.responses):
            if end > start and tokens + len(response) > budget:
                result.append(Block(block.prompt, block.responses[start:end]))
                start, tokens = end, len(block.prompt)
            tokens += len(response)
        result.append(Block(block.prompt, block.responses[start:]))
    return result


def pad(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-padded ``input_ids`` and ``attention_mask``, both int64 of shape (sequences, longest)."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids, mask


def fill_rows(blocks: Iterable[Block], tokens: int) -> Iterator[list[Block]]:
    """Blocks in their order, as many at a time as ``tokens`` allow, at least one."""
    row: list[Block] = []
    filled = 0
    for block in blocks:
        if row and filled + block.tokens > tokens:
            yield row
            row, filled = [], 0
        row.append(block)
        filled += block.tokens
    if row:
        yield row
