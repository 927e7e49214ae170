"""Who labels what: different labelers, even loads, and every two of them comparable."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardloop.errors import BadInputError
from rewardloop.labeling.assignment import assign, items_needed


@settings(max_examples=60, deadline=None)
@given(data=st.data(), labelers=st.integers(1, 9), items=st.integers(1, 40), seed=st.integers(0, 9))
def test_every_item_has_different_labelers_and_loads_differ_by_one(
    data: st.DataObject, labelers: int, items: int, seed: int
) -> None:
    per_item = data.draw(st.integers(1, labelers))
    found = assign(items, labelers, per_item, seed)
    assert [len(set(chosen)) for chosen in found.of_item] == [per_item] * items
    loads = [sum(who in chosen for chosen in found.of_item) for who in range(labelers)]
    assert max(loads) - min(loads) <= 1
    assert found.shared.diagonal().tolist() == loads
    for one in range(labelers):
        for other in range(one):
            meetings = sum({one, other} <= set(chosen) for chosen in found.of_item)
            assert found.shared[one, other] == found.shared[other, one] == meetings
    # A connected graph of L labelers needs L - 1 links, and an item of n labelers makes n - 1 of them.
    if items * (per_item - 1) >= labelers - 1:
        assert found.connected


def test_every_two_meet_about_equally_often() -> None:
    assert assign(10, 6, 3, seed=0).least_shared >= 1  # the 2-(6,3,2) design has 2
    assert assign(60, 4, 2, seed=0).least_shared == 10  # 60 items, 6 pairs
    assert items_needed(4, 2, 10, seed=0) == 60
    assert items_needed(5, 1, 10, seed=0) is None


@pytest.mark.parametrize(("labelers", "per_item", "least"), [(8, 3, 10), (12, 4, 30), (20, 3, 10), (6, 3, 10)])
def test_the_items_that_are_said_to_be_needed_are_enough(labelers: int, per_item: int, least: int) -> None:
    """The average alone would say 94 for eight annotators, of which two share nine."""
    needed = items_needed(labelers, per_item, least, seed=0)
    assert needed is not None
    assert assign(needed, labelers, per_item, seed=0).least_shared >= least
    average = least * labelers * (labelers - 1) / (per_item * (per_item - 1))
    assert average <= needed < 1.05 * average + 1


def test_the_same_seed_assigns_the_same_and_too_few_annotators_are_refused() -> None:
    assert assign(20, 5, 3, 1).of_item == assign(20, 5, 3, 1).of_item
    with pytest.raises(BadInputError, match="--labelers 3: only 2 annotators are named"):
        assign(5, 2, 3, 0)
