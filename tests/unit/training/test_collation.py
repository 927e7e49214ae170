"""Items and pairs become groups of token sequences; what is cut or dropped is counted."""

import polars as pl
import pytest
from transformers import AutoTokenizer

from rewardloop.modeling.scoring import Encoder, Encoding
from rewardloop.tables import ITEMS, PAIRS
from rewardloop.training.collation import Group, encode_groups, pad_groups


def tables(responses: list[str], pairs: list[tuple[int, int, int, float]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    items = pl.DataFrame(
        [
            {"item": i, "group": 0, "split": "train", "document": str(i), "prompt": [], "response": text}
            for i, text in enumerate(responses)
        ],
        schema=ITEMS,
    )
    rows = [{"split": "train", "group": group, "a": a, "b": b, "p": p} for group, a, b, p in pairs]
    return items, pl.DataFrame(rows, schema=PAIRS)


@pytest.fixture
def encoder(tiny_base: str) -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(tiny_base), Encoding("plain", 12, "left"))


def test_pairs_name_positions_inside_their_group(encoder: Encoder) -> None:
    items, pairs = tables(["a", "b", "c", "d", "e"], [(7, 1, 3, 1.0), (7, 3, 4, 0.25), (2, 0, 2, 0.0)])
    result = encode_groups(items, pairs, encoder)
    assert [group.group for group in result.groups] == [2, 7]
    assert result.groups[1].a == (0, 1)
    assert result.groups[1].b == (1, 2)
    assert result.groups[1].p == (1.0, 0.25)
    assert len(result.groups[1].sequences) == 3


def test_too_long_response_is_dropped_with_its_pairs_and_counted(encoder: Encoder) -> None:
    items, pairs = tables(["a", "b", "x" * 50], [(0, 0, 1, 1.0), (0, 1, 2, 1.0), (1, 0, 2, 1.0)])
    result = encode_groups(items, pairs, encoder)
    assert result.dropped_responses == 1
    assert [(group.group, group.a, group.b) for group in result.groups] == [(0, (0,), (1,))]


def test_padded_batch_offsets_pairs_by_group() -> None:
    first = Group(0, ([5, 6], [7]), (0,), (1,), (1.0,))
    second = Group(1, ([8], [9, 10, 11], [12]), (0, 1), (2, 2), (0.0, 0.5))
    batch = pad_groups([first, second], pad_id=0)
    assert batch.ids_NT.tolist() == [[5, 6, 0], [7, 0, 0], [8, 0, 0], [9, 10, 11], [12, 0, 0]]
    assert batch.mask_NT.sum(dim=1).tolist() == [2, 1, 1, 3, 1]
    assert batch.group_N.tolist() == [0, 0, 1, 1, 1]
    assert batch.pairs.a_P.tolist() == [0, 2, 3]
    assert batch.pairs.b_P.tolist() == [1, 4, 4]
    assert batch.pairs.group_P.tolist() == [0, 1, 1]
