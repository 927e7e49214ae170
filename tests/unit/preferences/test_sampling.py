"""Which batches the labelers' sample comes from, who is new beside it, and which groups are drawn."""

import polars as pl
import pytest

from rewardloop.preferences.sampling import covered, draw, newcomers
from rewardloop.preferences.survey import Facts, look, together
from tests.unit.preferences.feedback import choice, frame, group, rating


def of(rows: int, ratings: bool = False, *labelers: str) -> Facts:
    return Facts(rows=rows, ratings=ratings, labelers=frozenset((one, None) for one in labelers))


def test_the_sample_stays_until_the_corpus_has_grown_by_a_fifth() -> None:
    first = [of(1_000_000)]
    assert covered(first, 60_000) == 1
    small = [of(10_000)] * 60
    found = [covered([*first, *small[:count]], 60_000) for count in range(61)]
    assert found == sorted(found)
    changes = [count for count in range(1, 61) if found[count] != found[count - 1]]
    assert changes == [15, 36]  # 60,000 times 2 ** (17 / 4) and 2 ** (18 / 4)
    for count, batches in enumerate(found):
        rows = [one.rows for one in (*first, *small[:count])]
        assert sum(rows[:batches]) >= 0.84 * sum(rows)


@pytest.mark.parametrize("total", [60_000, 71_352, 84_853, 120_000, 240_000])
def test_a_corpus_of_just_such_a_size_is_covered_whole(total: int) -> None:
    assert covered([of(total - 1), of(1)], 60_000) in (1, 2)
    assert covered([of(total)], 60_000) == 1


def test_ratings_that_only_newer_batches_have_are_in_the_sample() -> None:
    facts = [of(1000), of(2), of(2, True), of(2), of(2, True)]
    assert covered(facts, 100) == 3
    assert covered([of(1000, True), *facts[1:]], 100) == 1


def test_newcomers_are_in_no_old_batch() -> None:
    facts = [of(10, False, "anna", "ben"), of(10, False, "ben", "cleo"), of(10, False, "dan")]
    assert newcomers(facts, 1) == {("cleo", None), ("dan", None)}
    assert newcomers(facts, 3) == frozenset()


def test_everybody_is_drawn_and_nobody_more_often_than_wanted() -> None:
    asked = pl.DataFrame(
        {"content": [5, 4, 3, 2, 1, 9, 5], "labeler": ["a"] * 5 + ["b"] * 2, "pairs": [1.0] * 7},
        schema_overrides={"content": pl.Int64},
    )
    assert draw(asked, 2).to_list() == [1, 2, 5, 9]
    assert draw(asked.reverse(), 2).to_list() == [1, 2, 5, 9]


def test_a_look_at_two_halves_is_a_look_at_the_whole() -> None:
    groups = [
        group([f"x{i}", f"y{i}"], [choice("a", "b", f"w{i % 3}")], prompt=f"Q{i}", segment="south" if i % 2 else None)
        for i in range(10)
    ] + [group(["alone"], [rating("w9", a=3)], prompt=None)]
    rows = frame(groups)
    whole, asked = look(rows, "overall")
    halves = [look(part, "overall") for part in (rows.head(4), rows.tail(7))]
    assert together(facts for facts, _ in halves) == whole
    assert whole.segments == {"south": 5}
    assert whole.ratings
    assert not whole.verdicts
    assert ("w9", None) in whole.labelers
    assert sum(len(part) for _, part in halves) == len(asked) == 11
