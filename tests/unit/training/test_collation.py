"""Items and pairs become groups of token sequences; what is cut or dropped is counted."""

import polars as pl
import pytest
from transformers import AutoTokenizer

from rewardloop.modeling.scoring import Block, Encoder, Encoding, PackedRow, Reading
from rewardloop.tables import ITEMS, PAIRS
from rewardloop.training.collation import Group, PaddedRows, collate, encode_groups


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
    assert result.groups[1].responses == 3


def test_too_long_response_is_dropped_with_its_pairs_and_counted(encoder: Encoder) -> None:
    items, pairs = tables(["a", "b", "x" * 50], [(0, 0, 1, 1.0), (0, 1, 2, 1.0), (1, 0, 2, 1.0)])
    result = encode_groups(items, pairs, encoder)
    assert result.dropped_responses == 1
    assert [(group.group, group.a, group.b) for group in result.groups] == [(0, (0,), (1,))]


FIRST = Group(0, (Block([], ([5, 6],)), Block([], ([7],))), (0,), (1,), (1.0,))
SECOND = Group(1, (Block([8], ([9, 10], [12], [11])),), (0, 1), (2, 2), (0.0, 0.5), votes=(2.0, 3.0), gap=(-1.0, 0.0))


def test_pairs_of_a_batch_are_offset_by_group() -> None:
    batch = collate([FIRST, SECOND], Reading("packed"), 0)
    assert batch.group_N.tolist() == [0, 0, 1, 1, 1]
    assert batch.pairs.a_P.tolist() == [0, 2, 3]
    assert batch.pairs.b_P.tolist() == [1, 4, 4]
    assert batch.pairs.group_P.tolist() == [0, 1, 1]
    assert batch.pairs.votes_P.tolist() == [1.0, 2.0, 3.0]
    assert batch.pairs.gap_P.isnan().tolist() == [True, False, False]


def test_a_packed_batch_holds_every_prompt_once() -> None:
    batch = collate([FIRST, SECOND], Reading("packed"), 0)
    assert isinstance(batch.rows, PackedRow)
    assert batch.rows.ids_T.tolist() == [5, 6, 7, 8, 9, 10, 12, 11]
    assert batch.rows.position_T.tolist() == [0, 1, 0, 0, 1, 2, 1, 1]
    assert batch.rows.last_N.tolist() == [1, 2, 5, 6, 7]
    assert (batch.tokens, batch.positions) == (8, 8)


def test_a_padded_batch_has_a_row_per_response() -> None:
    batch = collate([FIRST, SECOND], Reading("padded"), 0)
    assert isinstance(batch.rows, PaddedRows)
    assert batch.rows.ids_RT.tolist() == [[5, 6, 0], [7, 0, 0], [8, 9, 10], [8, 12, 0], [8, 11, 0]]
    assert batch.rows.mask_RT.sum(dim=1).tolist() == [2, 1, 3, 2, 2]
    assert (batch.tokens, batch.positions) == (10, 15)


def test_responses_whose_prompt_was_cut_differently_do_not_share_it(tiny_base: str) -> None:
    items, pairs = tables(["ab", "a much longer answer"], [(0, 0, 1, 1.0)])
    asked = [{"role": "user", "content": "why is that so"}]
    items = items.with_columns(pl.Series("prompt", [asked] * len(items), dtype=ITEMS["prompt"]))
    encoder = Encoder(AutoTokenizer.from_pretrained(tiny_base), Encoding("plain", 40, "left"))
    result = encode_groups(items, pairs, encoder)
    assert result.truncated_prompts == 1
    (group,) = result.groups
    short, long = group.blocks
    assert len(long.prompt) < len(short.prompt)
    assert len(long.prompt) + len(long.responses[0]) == 40


def test_over_length_groups_are_counted_and_padding_is_in_the_size() -> None:
    assert SECOND.size(Reading("packed")) == 5
    assert SECOND.size(Reading("padded")) == 9


def test_weights_by_age_reach_the_batch_and_are_left_out_where_all_are_one(encoder: Encoder) -> None:
    items, pairs = tables(["a", "b", "c", "d"], [(0, 0, 1, 1.0), (1, 2, 3, 1.0)])
    old = pl.when(pl.col("group") == 0).then(0.25).alias("weight")  # null, as in tables without ages, counts fully
    aged, plain = (
        encode_groups(items, table, encoder).groups
        for table in (pairs.with_columns(old), pairs.with_columns(weight=1.0))
    )
    assert [group.weight for group in aged] == [(0.25,), (1.0,)]
    assert [group.weight for group in plain] == [(), ()]
    packed, weightless = (collate(groups, Reading("packed"), 0).pairs.weight_P for groups in (aged, plain))
    assert packed is not None
    assert packed.tolist() == [0.25, 1.0]
    assert weightless is None
