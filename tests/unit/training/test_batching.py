"""Rows are filled, work is shared out, and nothing is lost on the way."""

from hypothesis import given
from hypothesis import strategies as st

from rewardloop.training.batching import first_fit, plan, share_out

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=40)


def test_first_fit_puts_the_largest_first() -> None:
    assert first_fit([3, 6, 2, 5, 4], 10) == [[1, 4], [0, 2, 3]]


def test_what_exceeds_the_budget_gets_a_row_of_its_own() -> None:
    assert first_fit([12, 3, 4], 10) == [[0], [1, 2]]


def test_work_is_shared_out_evenly() -> None:
    # The largest first, to whoever has least: 5 + 3 + 3 against 4 + 4 + 2.
    shares = share_out([5, 4, 4, 3, 3, 2], 2)
    assert shares == [[0, 3, 4], [1, 2, 5]]


@given(sizes=SIZES, budget=st.integers(50, 400), processes=st.integers(1, 4))
def test_every_group_is_in_one_batch_within_the_budget(sizes: list[int], budget: int, processes: int) -> None:
    batches = [row for process in plan(sizes, budget, processes) for row in process]
    assert sorted(place for row in batches for place in row) == list(range(len(sizes)))
    for row in batches:
        assert len(row) == 1 or sum(sizes[place] for place in row) <= budget


@given(sizes=st.lists(st.integers(20, 100), min_size=40, max_size=120))
def test_rows_are_nearly_full(sizes: list[int]) -> None:
    rows = first_fit(sizes, 512)
    assert len(rows) <= sum(sizes) / 512 * 1.25 + 1
