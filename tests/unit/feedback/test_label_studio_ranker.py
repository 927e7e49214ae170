"""What exports of Label Studio's ranker leave open: buckets, their order, and tasks that cannot be read."""

from typing import Any

import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Rejected, choose, importers, parse_options
from tests.exports import ranked, ranks, read, reason, table_of


@pytest.mark.parametrize(
    ("within", "expected"),
    [("order", {"c": 1, "a": 2, "b": 3, "d": 4}), ("ties", {"c": 1, "a": 1, "b": 3, "d": 3})],
)
def test_the_order_inside_of_a_bucket_is_what_the_option_says(within: str, expected: dict[str, int]) -> None:
    buckets = table_of(ranked({"ranker": {"bad": ["b", "d"], "good": ["c", "a"]}}))
    (outcome,) = read(buckets, "label-studio-ranker", {"buckets": "good, bad", "within": within})
    assert ranks(outcome) == expected
    (untold,) = read(buckets, "label-studio-ranker", {"buckets": "good,bad"})
    assert "bucket 'good' has 2 items; say what their order means: --option within=order" in reason(untold)


def test_buckets_of_one_item_each_need_no_meaning_of_their_order() -> None:
    (outcome,) = read(
        table_of(ranked({"ranker": {"bad": ["b"], "good": ["c"]}})), "label-studio-ranker", {"buckets": "good,bad"}
    )
    assert ranks(outcome) == {"c": 1, "b": 2}


def test_what_nobody_moved_is_ranked_only_where_it_is_named() -> None:
    table = table_of(ranked({"ranker": {"_": ["b", "d"], "good": ["c"], "bad": ["a"]}}))
    (left_out,) = read(table, "label-studio-ranker", {"buckets": "good,bad", "within": "ties"})
    assert ranks(left_out) == {"c": 1, "a": 2}
    (named,) = read(table, "label-studio-ranker", {"buckets": "good,_,bad", "within": "ties"})
    assert ranks(named) == {"c": 1, "b": 2, "d": 2, "a": 4}


def test_a_bucket_that_is_called_like_the_tag_is_a_bucket_where_it_is_named() -> None:
    table = table_of(ranked({"ranker": {"rank": ["b", "d"]}}))
    assert ranks(read(table, "label-studio-ranker")[0]) == {"b": 1, "d": 2}
    (tied,) = read(table, "label-studio-ranker", {"buckets": "rank", "within": "ties"})
    assert ranks(tied) == {"b": 1, "d": 1}


@pytest.mark.parametrize("names", ["a,,b", "a,a", ""])
def test_lists_of_names_are_checked(names: str) -> None:
    with pytest.raises(BadInputError, match=r"--option criteria=.*: expected different names with commas between"):
        parse_options(importers()["label-studio-ranker"], {"criteria": names}, {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"prompt": "Q"}, "data has no 'items'; found prompt. Name it: --column items=KEY"),
        ({"items": "abc"}, "data.items: found a JSON str; expected a list"),
        ({"items": [{"id": "a", "body": "A"}]}, "data.items: found 1 items; expected at least two"),
        ({"items": ["a", "b"]}, "data.items: found a JSON str; expected objects with an id and a text"),
        ({"items": [{"body": "A"}, {"body": "B"}]}, "an item has no 'id'; found body. Name it: --column id=KEY"),
        ({"items": [{"id": 1, "body": "A"}, {"id": "1", "body": "B"}]}, "data.items: '1' is the id of two items"),
        ("text", "data: found a JSON str; expected an object"),
    ],
)
def test_tasks_of_rankers_that_cannot_be_read(data: Any, message: str) -> None:
    (outcome,) = read(table_of(ranked({"ranker": ["a", "b"]}, data=data)), "label-studio-ranker")
    assert message in reason(outcome)


def test_what_is_nested_deeper_than_any_shape_is_withheld_from_quarantine() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    (outcome,) = read(table_of(ranked({"ranker": [["a"]]}, data={"items": deep})), "label-studio-ranker")
    assert isinstance(outcome, Rejected)
    assert outcome.row.raw is not None
    assert str(outcome.row.raw["data"]["items"]).count("[") < 6


def test_an_export_whose_first_tasks_wait_for_their_labels_is_recognized() -> None:
    waiting = [ranked({}) | {"annotations": []} for _ in range(25)]
    assert choose([table_of(*waiting, ranked({"ranker": ["a", "b"]}))], "auto", {}, {}).importer.name == (
        "label-studio-ranker"
    )
    with pytest.raises(BadInputError, match="format not recognized"):
        choose([table_of(*waiting)], "auto", {}, {})
