"""Great Expectations on a batch: each expectation has a batch that fails it and one that passes."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import ValidationSettings
from rewardloop.feedback import row_facts
from rewardloop.feedback.validation import BatchResult, Validator
from tests.unit.preferences.feedback import choice, frame, group, ranking, rating


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data_docs")


def judged(folder: Path, batch: pl.DataFrame | pl.LazyFrame, **changes: Any) -> BatchResult:
    settings = ValidationSettings.model_validate({"max_failed_share": 0.5} | changes)
    return Validator(settings, "overall", folder).judge("d" * 64, batch)


def good(count: int = 6, labelers: int = 3) -> list[Any]:
    """Groups that everybody can be content with."""
    labels = [[choice(*("ab" if (i + who) % 2 else "ba"), f"w{who}") for who in range(labelers)] for i in range(count)]
    return [group([f"yes {i}", f"no {i}"], labels[i], prompt=f"Q{i}") for i in range(count)]


def test_a_good_batch_passes_everything_and_leaves_data_docs(tmp_path: Path) -> None:
    result = judged(tmp_path, frame(good()))
    assert result.reasons == []
    assert result.failed == []
    assert len(result.kept) == 6
    assert all(line.passed for line in result.lines)
    assert {line.level for line in result.lines} == {"row", "batch"}
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize(
    ("bad", "reason", "changes"),
    [
        (group(["", "B"], [choice("a", "b", "w1")]), "too short a response", {}),
        (
            group(["x" * 101, "B"], [choice("a", "b", "w1")]),
            "too long a response",
            {"max_response_characters": 100},
        ),
        (
            group(["A", "B"], [choice("a", "b", "w1")], prompt="q" * 101),
            "too long a prompt",
            {"max_prompt_characters": 100},
        ),
        (group(["A\x00", "B"], [choice("a", "b", "w1")]), "control characters in a text", {}),
        (group(["A", "B"], [choice("a", "b", "w1")], prompt="Q\x1b[2J"), "control characters in a text", {}),
        (group(["A", "A"], [choice("a", "b", "w1")]), "two equal responses in one group", {}),
        (group(["A", "B"], [choice("a", "b", "w1")]), "too few labelers", {"min_labelers_per_item": 2}),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason(folder: Path, bad: Any, reason: str, changes: dict[str, Any]) -> None:
    result = judged(folder, frame([*good(), bad]), **changes)
    assert result.failed == [(6, reason)]
    assert len(result.kept) + len(result.failed) == 7
    line = next(line for line in result.lines if not line.passed)
    assert line.unexpected == 1
    assert line.examples == ["test:6"]


def broken(batch: pl.DataFrame, value: float, kind: str, scale: list[float] | None = None) -> pl.DataFrame:
    """The batch with the first label of its last row replaced: records themselves cannot hold such a value."""
    label = {"labeler": "w", "labeler_kind": "human", "criterion": "overall", "kind": kind, "scale": scale}
    labels = [{**label, "values": [{"response_id": "a", "value": value}, {"response_id": "b", "value": 1.0}]}]
    column = [*batch["labels"].to_list()[:-1], labels]
    return batch.with_columns(pl.Series("labels", column, dtype=batch.schema["labels"]))


@pytest.mark.parametrize(
    ("value", "kind", "scale", "reason"),
    [
        (float("nan"), "rating", None, "a rating or rank that is no finite number"),
        (float("inf"), "rating", None, "a rating or rank that is no finite number"),
        (9.0, "rating", [1.0, 5.0], "a rating outside its scale"),
        (0.0, "ranking", None, "a rank that is not 1, 2, 3 and so on"),
        (1.5, "ranking", None, "a rank that is not 1, 2, 3 and so on"),
        (1.0, "thumbs", None, "a label of an unknown kind"),
    ],
)
def test_values_that_records_refuse_are_found_in_foreign_batches(
    folder: Path, value: float, kind: str, scale: list[float] | None, reason: str
) -> None:
    result = judged(folder, broken(frame(good()), value, kind, scale))
    assert [row for row, _ in result.failed] == [5]
    assert reason in result.failed[0][1]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("responses", [("a", None), ("b", "B")], "without text"),
        ("responses", [], "without text"),
        ("responses", [("a", " \n "), ("b", "B")], "too short a response"),
        ("prompt", None, "without text"),
        ("prompt", [{"role": "user", "content": None}], "without text"),
        ("group_id", None, "group_id is missing"),
        ("content", None, "content is missing"),
        ("labels", [], "too few labelers"),
        ("labels", None, "too few labelers"),
    ],
)
def test_nulls_never_pass(folder: Path, column: str, value: Any, reason: str) -> None:
    batch = frame(good())
    if column == "responses":
        value = [{"response_id": key, "content": text, "model": None} for key, text in value]
    cells = [*batch[column].to_list()[:-1], value]
    result = judged(folder, batch.with_columns(pl.Series(column, cells, dtype=batch.schema[column])))
    assert [row for row, _ in result.failed] == [5]
    assert reason in result.failed[0][1]


def tied_rankings() -> list[Any]:
    labels = [ranking("w0", a=1, b=1), ranking("w1", a=1, b=1)]
    return [group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}") for i in range(6)]


def rated(values: list[int]) -> list[Any]:
    """Single texts, each rated the same by two people."""
    return [group([f"t{i}"], [rating("w0", a=v), rating("w1", a=v)], prompt=None) for i, v in enumerate(values)]


def rated_in_groups(first: tuple[int, int], second: tuple[int, int], names: bool) -> list[Any]:
    """Two answers per prompt; each rating of each answer is a label of its own, as importers of ratings write them."""
    people = ["w0", "w1"] if names else [None, None]
    labels = [
        rating(who, **{key: score})
        for key, scores in (("a", first), ("b", second))
        for who, score in zip(people, scores, strict=True)
    ]
    return [group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}") for i in range(6)]


def verdicts(values: list[bool]) -> list[Any]:
    labels = [
        [{"kind": "acceptable", "values": {"a": value}, "labeler": who, "criterion": "safety"} for who in ("w0", "w1")]
        for value in values
    ]
    return [group([f"t{i}"], label, prompt=f"Q{i}") for i, label in enumerate(labels)]


def on(criterion: str, groups: list[Any]) -> list[Any]:
    return [
        one.model_copy(
            update={"labels": tuple(label.model_copy(update={"criterion": criterion}) for label in one.labels)}
        )
        for one in groups
    ]


def half_named() -> list[Any]:
    """One person with a name, two without."""
    labels = [choice("a", "b", "w0"), choice("a", "b"), choice("b", "a")]
    return [group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}") for i in range(6)]


@pytest.mark.parametrize(
    "groups",
    [
        rated_in_groups((5, 4), (1, 2), names=True),
        rated_in_groups((5, 4), (1, 2), names=False),
        verdicts([True, False] * 3),
        half_named(),
    ],
    ids=["a label per answer", "a label per answer, no names", "verdicts only", "some without names"],
)
def test_an_unusual_but_good_batch_passes(folder: Path, groups: Any) -> None:
    result = judged(folder, frame(groups))
    assert result.reasons == []
    assert len(result.kept) == 6


def alone_on_two_criteria() -> list[Any]:
    """One person without a name, who judged two things: not two people."""
    labels = [choice("a", "b"), choice("a", "b") | {"criterion": "tone"}]
    return [group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}") for i in range(6)]


@pytest.mark.parametrize(
    ("groups", "reason", "changes"),
    [
        (good(1), "usable groups: found 1; expected 2 or more", {}),
        (good(labelers=1), "labelers: found 1; expected 2 labelers or more", {}),
        (alone_on_two_criteria(), "labelers: found 1; expected 2 labelers or more", {}),
        (on("tone", good()), "labels on criterion 'overall': found 0", {}),
        (tied_rankings(), "an answer is preferred: found 0", {}),
        (rated([3] * 6), "an answer is preferred: found 0", {"max_label_imbalance": 1.0}),
        (rated_in_groups((5, 3), (5, 3), names=True), "an answer is preferred: found 0", {}),
        (rated_in_groups((5, 3), (3, 5), names=False), "an answer is preferred: found 0", {}),
        (verdicts([True] * 6), "share of the most frequent label value: found 100.0%; expected at most 95.0%", {}),
        (
            rated([1] + [5] * 59),
            "share of the most frequent label value: found 98.3%; expected at most 95.0%",
            {},
        ),
        (
            [*good(2), *good(2), *good(2)],
            "share of groups that repeat another one: found 66.7%; expected at most 20.0%",
            {},
        ),
        (
            good(labelers=2),
            "agreement among labelers (Krippendorff's alpha): found",
            {"min_agreement": 0.2},
        ),
    ],
    ids=[
        "few groups",
        "one labeler",
        "one labeler without a name",
        "another criterion",
        "ties of rankings",
        "ties of single ratings",
        "ties of ratings",
        "ties of ratings without names",
        "one verdict",
        "one value",
        "repeated",
        "disagreement",
    ],
)
def test_a_bad_batch_is_refused_with_what_was_found(
    folder: Path, groups: Any, reason: str, changes: dict[str, Any]
) -> None:
    result = judged(folder, frame(groups), **changes)
    assert any(reason in found for found in result.reasons), result.reasons


def test_too_many_bad_rows_refuse_the_batch(folder: Path) -> None:
    bad = [group(["A", "A"], [choice("a", "b", "w1")], prompt=f"bad {i}") for i in range(4)]
    result = judged(folder, frame([*good(), *bad]), max_failed_share=0.3)
    assert result.reasons == ["share of unusable rows: found 40.0%; expected at most 30.0%"]


def test_agreement_that_cannot_be_computed_does_not_pass(folder: Path) -> None:
    alone = [group([f"A{i}", f"B{i}"], [choice("a", "b", f"w{i}")], prompt=f"Q{i}") for i in range(6)]
    result = judged(folder, frame(alone), min_agreement=-1.0)
    assert any("agreement that can be computed" in reason for reason in result.reasons)


def test_nothing_left_is_refused(folder: Path) -> None:
    result = judged(folder, frame([group(["A", "A"], [choice("a", "b", "w1")])]))
    assert len(result.kept) == 0
    assert any(reason.startswith("usable groups: found 0") for reason in result.reasons)


def test_votes_in_rows_of_their_own_count_together(folder: Path) -> None:
    votes = [group(["A", "B"], [choice("a", "b", who)], prompt="Q") for who in ("w1", "w2")]
    result = judged(folder, frame([*votes, *good(4)]), min_labelers_per_item=2, max_duplicate_share=0.0)
    assert result.failed == []
    assert result.reasons == []
    alone = judged(folder, frame([votes[0], *good(4)]), min_labelers_per_item=2)
    assert alone.failed == [(0, "too few labelers")]


def test_agreement_is_enough(folder: Path) -> None:
    # Everybody says the same of each pair, and not the same of all pairs.
    labels = [[choice(*("ab" if i % 2 else "ba"), f"w{who}") for who in range(2)] for i in range(6)]
    batch = frame([group([f"A{i}", f"B{i}"], labels[i], prompt=f"Q{i}") for i in range(6)])
    result = judged(folder, batch, min_agreement=0.99)
    assert result.reasons == []
    assert result.lines[-1].observed == "1"


def test_facts_of_a_batch_do_not_depend_on_its_slices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    votes = [
        group([f"a{i}", f"b{i}"], [choice("a", "b", f"w{who}")], prompt=f"Q{i}") for i in range(4) for who in "123"
    ]
    bad = [group(["A", "A"], [choice("a", "b", "w1")], prompt="same"), group(["", "B"], [choice("a", "b", "w1")])]
    texts = [group([f"t{i}"], [rating("w1", a=i % 3)], prompt=None) for i in range(5)]
    batch = frame([*good(), *votes, bad[0], *texts, bad[1], *votes[:2]])
    limits = {"min_labelers_per_item": 3, "min_agreement": 0.1, "max_duplicate_share": 0.05}
    whole = judged(folder, batch, **limits)
    assert whole.failed
    assert whole.reasons
    monkeypatch.setattr(row_facts, "SLICE", 3)
    for cut in (batch, batch.lazy()):
        sliced = judged(folder, cut, **limits)
        assert sliced.failed == whole.failed
        assert sliced.lines == whole.lines
        assert sliced.reasons == whole.reasons
        assert sliced.kept.equals(whole.kept)
