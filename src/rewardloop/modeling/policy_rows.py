"""Answers put to a model as rows: each prompt once with its answers, read where answers' tokens are predicted.

In: prompts with their answers, as tokens. Out: ``PolicyRow``s (packed, or padded for a base that cannot be packed) and,
for a row, the trunk's hidden states before each answer's token. What frozen lower layers give can be kept from one
reading of a row and begun with in the next.

Shapes: T tokens of the row, W tokens of its answers, U places that are read, H hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rewardloop.modeling.frozen import FrozenLayers
from rewardloop.modeling.scoring import Block, PackedRow, Reading, pack, pad, read_hidden


@dataclass
class PolicyRow:
    """A few prompts with their answers; answers are in the order of the blocks."""

    blocks: Sequence[Block]
    token_W: Tensor
    """The answers' tokens, one answer after the other."""
    answer_W: Tensor
    """Number of the answer in the row."""
    lengths: list[int]
    """Tokens of each answer."""
    tokens: int
    """That go through the model."""
    packed: PackedRow | None
    read_U: Tensor
    """Places in the packed row, or in the flattened padded rows, that predict a token."""
    place_W: Tensor
    """Position in ``read_U`` of what predicts each token; a prompt's end predicts the first token of every answer."""
    ids_RT: Tensor | None = None
    mask_RT: Tensor | None = None
    below: Tensor | None = None
    """What the frozen lower layers gave for the row, shape (T, H)."""


class RowReader:
    """Reads rows with one model: the policy's, or a value model with the same tokens."""

    def __init__(self, model: Any, reading: Reading, pad_id: int) -> None:
        self.model = model
        """A causal or sequence-classification model without LoRA's wrapper."""
        self.reading = reading
        self.pad_id = pad_id
        self.frozen = FrozenLayers(model) if reading.kind != "padded" else None

    @property
    def keeps_frozen(self) -> bool:
        """Whether lower layers are frozen, so that what they give can be kept."""
        return self.frozen is not None and self.frozen.count > 0

    def row(self, blocks: Sequence[Block]) -> PolicyRow:
        """Put prompts with their answers, all of at least one token, into one row."""
        answers = [response for block in blocks for response in block.responses]
        lengths = [len(answer) for answer in answers]
        token_W = torch.tensor([token for answer in answers for token in answer])
        answer_W = torch.repeat_interleave(torch.arange(len(answers)), torch.tensor(lengths))
        device = next(self.model.parameters()).device
        # Nothing is predicted from an answer's last token, so it need not go through the model.
        read = [Block(block.prompt, tuple(response[:-1] for response in block.responses)) for block in blocks]
        if self.reading.kind == "padded":
            sequences = [[*block.prompt, *response] for block in read for response in block.responses]
            ids_RT, mask_RT = pad(sequences, self.pad_id)
            starts = [len(block.prompt) for block in blocks for _ in block.responses]
            before = [
                number * ids_RT.shape[1] + start - 1 + place
                for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
                for place in range(length)
            ]
            packed, tokens = None, ids_RT.numel()
            rows = {"ids_RT": ids_RT.to(device), "mask_RT": mask_RT.to(device)}
        else:
            packed = pack(read, self.pad_id, multiple=self.reading.multiple).to(device)
            before, start = [], 0
            for block in read:
                place = start + len(block.prompt)
                for response in block.responses:
                    before += [start + len(block.prompt) - 1, *range(place, place + len(response))]
                    place += len(response)
                start = place
            tokens, rows = len(packed.ids_T), {}
        # Each place is read once, also where it predicts for several answers: their gradients add up there.
        read_U, place_W = torch.unique(torch.tensor(before), return_inverse=True)
        moved = [tensor.to(device) for tensor in (token_W, answer_W, read_U, place_W)]
        return PolicyRow(blocks, moved[0], moved[1], lengths, tokens, packed, moved[2], moved[3], **rows)

    def hidden(self, row: PolicyRow) -> Tensor:
        """The trunk's last hidden states before each answer's token, shape (W, H)."""
        if row.packed is None:
            # Only the trunk: logits of padded rows would be kept for nothing.
            flat = self.model.base_model(
                input_ids=row.ids_RT, attention_mask=row.mask_RT, use_cache=False
            ).last_hidden_state.flatten(0, 1)
            read: Tensor = flat[row.read_U]
        else:
            with self._above(row):
                read = read_hidden(self.model, row.packed, self.reading, row.read_U)
        return read[row.place_W]

    def keep_below(self, row: PolicyRow) -> None:
        """Compute what the frozen lower layers give for the row, for all later readings of it."""
        if self.frozen is not None and self.frozen.count and row.packed is not None:
            row.below = self.frozen.compute_row(row.packed, self.reading)

    @contextmanager
    def _above(self, row: PolicyRow) -> Iterator[None]:
        if row.below is None or self.frozen is None:
            yield
            return
        with self.frozen.skipped() as frozen:
            frozen.begin_with(row.below)
            yield
