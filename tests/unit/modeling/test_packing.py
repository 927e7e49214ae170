"""Packed rows: what they hold, and that every family of bases scores them as it scores single rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rewardloop.modeling.scoring import (
    Block,
    Reading,
    pack,
    pad,
    prepare_reading,
    read_packed,
    read_padded,
    share_prompts,
    split_blocks,
)
from rewardloop.modeling.scoring.packing import Part
from tests.bases import MASKED, PACKED, PADDED, VOCABULARY, make_base

READABLE = PACKED | MASKED


def sequences(seed: int) -> list[tuple[list[int], list[int]]]:
    """Two prompts with two and three responses, and two responses without a prompt, some beyond a window of 10."""
    torch.manual_seed(seed)

    def tokens(count: int) -> list[int]:
        values: list[int] = torch.randint(2, VOCABULARY, (count,)).tolist()
        return values

    first, second = tokens(20), tokens(33)
    return [
        (first, tokens(5)),
        ([], tokens(9)),
        (second, tokens(1)),
        (first, tokens(13)),
        ([], tokens(30)),
        (second, tokens(12)),
        (second, tokens(4)),
    ]


def alone(model: Any, wanted: list[tuple[list[int], list[int]]]) -> Tensor:
    """Each sequence in a row of its own, read before the model is prepared for packing."""
    with torch.no_grad():
        return torch.cat([read_padded(model, *pad([[*prompt, *response]], 0)) for prompt, response in wanted])


def test_a_row_holds_prompts_once_and_positions_continue_them() -> None:
    row = pack([Block([7, 8], ([9], [10, 11])), Block([], ([12, 13],))], 0, multiple=5)
    assert row.ids_T.tolist() == [7, 8, 9, 10, 11, 12, 13, 0, 0, 0]
    assert row.position_T.tolist() == [0, 1, 2, 2, 3, 0, 1, 0, 1, 2]
    assert row.last_N.tolist() == [2, 4, 6]
    assert row.visible(torch.arange(7), torch.arange(7)).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


def test_a_window_counts_positions_not_places() -> None:
    row = pack([Block([7, 8], ([9, 9], [10, 11]))], 0)
    # The last token is at position 3, five places behind the prompt's first token and three positions.
    assert row.visible(torch.arange(6), torch.arange(6), 3).int().tolist()[5] == [0, 1, 0, 0, 1, 1]


def test_responses_of_a_large_block_are_attended_to_one_by_one() -> None:
    row = pack([Block([5], ([6],)), Block([7] * 200, ([8] * 50, [9] * 30)), Block([], ([4] * 100,))], 0)
    assert row.parts == [Part(0, 2), Part(2, 202), Part(202, 252, (2, 202)), Part(252, 282, (2, 202)), Part(282, 382)]
    masks = row.part_masks(None)
    assert [tuple(mask.shape) for mask in masks] == [(2, 2), (200, 200), (50, 250), (30, 230), (100, 100)]
    assert masks[2][:, :200].all()
    assert torch.equal(masks[2][:, 200:], torch.ones(50, 50, dtype=torch.bool).tril())


def test_equal_prompts_are_shared_and_empty_ones_are_not() -> None:
    blocks, order = share_prompts([([1], [2]), ([], [3]), ([1], [4]), ([], [3])])
    assert blocks == [Block([1], ([2], [4])), Block([], ([3],)), Block([], ([3],))]
    assert order == [0, 2, 1, 3]


def test_a_block_beyond_the_budget_repeats_its_prompt() -> None:
    whole = Block([1, 1], ([2, 2], [3], [4, 4, 4, 4, 4, 4]))
    assert split_blocks([whole], 5) == [Block([1, 1], ([2, 2], [3])), Block([1, 1], ([4, 4, 4, 4, 4, 4],))]
    assert split_blocks([whole], 100) == [whole]


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("large", [0, 256])
def test_packed_scores_equal_those_of_single_rows(name: str, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewardloop.modeling.scoring.packing._LARGE", large)
    wanted = sequences(1)
    model = make_base(*READABLE[name]).eval()
    expected = alone(model, wanted)
    reading = prepare_reading(model, max_length=128)
    assert reading == Reading("packed" if name in PACKED else "masked")
    blocks, order = share_prompts(wanted)
    assert [len(block.responses) for block in blocks] == [2, 1, 3, 1]
    with torch.no_grad():
        scores = read_packed(model, pack(blocks, 0), reading)
        # Other row-mates, and padding at the end: the same score.
        single = read_packed(model, pack([blocks[2]], 0, multiple=64), reading)
    torch.testing.assert_close(scores, expected[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores[3:6], single, rtol=1e-5, atol=1e-5)
    assert float(expected.std()) > 0.01


@pytest.mark.parametrize("name", PADDED)
def test_bases_that_cannot_be_packed_are_named_and_padded(name: str) -> None:
    model = make_base(*PADDED[name])
    before = alone(model.eval(), sequences(1))
    reading = prepare_reading(model, max_length=128)
    assert reading.kind == "padded"
    assert type(model).__name__ in reading.reason
    torch.testing.assert_close(alone(model, sequences(1)), before)


def test_a_base_that_scores_packed_rows_differently_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_base(*PACKED["llama"])
    base = model.model.forward
    # A base that ignores the positions it is given: everything else about it looks as if it could be packed.
    monkeypatch.setattr(model.model, "forward", lambda position_ids=None, **options: base(**options))
    reading = prepare_reading(model, max_length=128)
    assert reading.kind == "padded"
    assert "scores differently" in reading.reason
    assert model.config._attn_implementation == "sdpa"


def test_unknown_attention_is_not_packed() -> None:
    model = make_base(*PACKED["llama"])
    model.config.layer_types = ["full_attention", "chunked_attention", "full_attention"]
    assert "chunked_attention" in prepare_reading(model, max_length=128).reason


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_flex_attention_gives_the_same_scores(name: str) -> None:
    """FlexAttention as on CUDA, here without compilation: forward only, the CPU has no backward for it."""
    wanted = sequences(2)
    model = make_base(*PACKED[name]).eval()
    expected = alone(model, wanted)
    prepare_reading(model, max_length=128)
    blocks, order = share_prompts(wanted)
    reading = Reading("packed", flex=True)
    with torch.no_grad():
        scores = read_packed(model, pack(blocks, 0, multiple=reading.multiple), reading)
    torch.testing.assert_close(scores, expected[order], rtol=1e-5, atol=1e-5)


def test_a_prepared_model_still_takes_ordinary_calls() -> None:
    model = make_base(*PACKED["llama"]).eval()
    wanted = [[*prompt, *response] for prompt, response in sequences(3)]
    with torch.no_grad():
        before = read_padded(model, *pad(wanted, 0))
        prepare_reading(model, max_length=128)
        torch.testing.assert_close(read_padded(model, *pad(wanted, 0)), before)
