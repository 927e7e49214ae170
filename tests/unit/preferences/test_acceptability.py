"""Where verdicts come from: the first source there is, or the one that was asked for."""

import polars as pl
import pytest

from rewardloop.errors import BadInputError
from rewardloop.preferences.acceptability import Source, acceptability

# Answer 2 is a tie in every source that can have one.
VALUES = pl.DataFrame(
    {
        "answer": [0, 0, 0, 1, 2, 2],
        "kind": ["acceptable"] * 6,
        "sampling": ["random", "active", "random", "random", "random", "random"],
        "value": [1.0, 1.0, 0.0, 0.0, 1.0, 0.0],
    }
)
RATINGS = pl.DataFrame({"answer": [0, 1, 2], "rating": [1.0, 3.0, 2.0]})
PAIRS = pl.DataFrame({"a": [0, 1, 2], "b": [1, 2, 0], "p": [0.9, 0.6, 0.5]})
NONE = VALUES.clear(), RATINGS.clear(), PAIRS.clear()


def verdicts(known: pl.DataFrame) -> dict[int, bool]:
    return dict(known.sort("answer").select("answer", "acceptable").iter_rows())


@pytest.mark.parametrize(
    ("source", "expected", "words"),
    [
        ("auto", {0: True, 1: False}, "explicit verdicts, the majority decides"),
        ("labels", {0: True, 1: False}, "explicit verdicts, the majority decides"),
        ("ratings", {0: False, 1: True, 2: True}, "mean rating >= 2"),
        # Won: 0 has (0.9 + 0.5) / 2, 1 has (0.1 + 0.6) / 2, 2 has (0.4 + 0.5) / 2.
        ("comparisons", {0: True, 1: False, 2: False}, "won more than half of its comparisons"),
    ],
)
def test_the_source_that_is_asked_for_decides(source: Source, expected: dict[int, bool], words: str) -> None:
    known, said = acceptability(VALUES, RATINGS, PAIRS, 2.0, source)
    assert verdicts(known) == expected
    assert said == words


def test_verdicts_that_were_asked_for_on_purpose_do_not_become_the_source() -> None:
    picked = VALUES.with_columns(sampling=pl.lit("active"))
    assert acceptability(picked, RATINGS, PAIRS, 2.0)[1] == "mean rating >= 2"
    assert acceptability(picked, RATINGS, PAIRS, 2.0, "labels")[1] == "explicit verdicts, the majority decides"


def test_auto_takes_the_first_there_is() -> None:
    values, ratings, pairs = NONE
    assert acceptability(values, RATINGS, PAIRS, 2.0)[1] == "mean rating >= 2"
    assert acceptability(values, RATINGS, PAIRS, None)[1] == "won more than half of its comparisons"
    assert acceptability(values, ratings, PAIRS, 2.0)[1] == "won more than half of its comparisons"
    known, said = acceptability(values, ratings, pairs, 2.0)
    assert known.is_empty()
    assert said.startswith("not known")


@pytest.mark.parametrize(
    ("source", "cut", "says"),
    [
        ("labels", None, "preferences.acceptable_from: labels, but no answer has a majority of `acceptable` labels; "),
        ("ratings", None, "preferences.acceptable_from: ratings, but preferences.acceptable_rating is not set; set "),
        ("ratings", 2.0, "preferences.acceptable_from: ratings, but no answer has a rating on the trained criterion"),
        ("comparisons", None, "set it to one of auto, labels, ratings"),
    ],
)
def test_a_source_that_has_nothing_is_refused(source: Source, cut: float | None, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        acceptability(*NONE, cut, source)


def test_labels_that_are_all_divided_are_nothing() -> None:
    with pytest.raises(BadInputError, match="no answer has a majority"):
        acceptability(VALUES.filter(answer=2), RATINGS, PAIRS, 2.0, "labels")
