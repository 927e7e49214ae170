"""Great Expectations on a batch: each expectation has a batch that fails it and one that passes."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import ValidationSettings
from rewardloop.feedback.validation import BatchResult, Validator
from tests.unit.preferences.feedback import choice, frame, group, ranking, rating


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data_docs")


def judged(folder: Path, batch: pl.DataFrame, **changes: Any) -> BatchResult:
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
        (0.0, "ranking", None, "a rank below 1"),
    ],
)
def test_values_that_records_refuse_are_found_in_foreign_batches(
    folder: Path, value: float, kind: str, scale: list[float] | None, reason: str
) -> None:
    result = judged(folder, broken(frame(good()), value, kind, scale))
    assert [row for row, _ in result.failed] == [5]
    assert reason in result.failed[0][1]


def tied_rankings() -> list[Any]:
    labels = [ranking("w0", a=1, b=1), ranking("w1", a=1, b=1)]
    return [group([f"A{i}", f"B{i}"], labels, prompt=f"Q{i}") for i in range(6)]


def rated(values: list[int]) -> list[Any]:
    """Single texts, each rated the same by two people."""
    return [group([f"t{i}"], [rating("w0", a=v), rating("w1", a=v)], prompt=None) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("groups", "reason", "changes"),
    [
        (good(1), "groups: found 1; expected 2 usable groups or more", {}),
        (good(labelers=1), "labelers: found 1; expected 2 labelers or more", {}),
        (tied_rankings(), "not all ties", {}),
        (rated([3] * 6), "not all ties", {"max_label_imbalance": 1.0}),
        (rated([1] + [5] * 59), "no label value has more than 95.0%", {}),
        ([*good(2), *good(2), *good(2)], "at most 20.0% of groups repeat another one", {}),
        (good(labelers=2), "Krippendorff's alpha of 0.2 or more", {"min_agreement": 0.2}),
    ],
    ids=["few groups", "one labeler", "ties of rankings", "ties of ratings", "one value", "repeated", "disagreement"],
)
def test_a_bad_batch_is_refused_with_what_was_found(
    folder: Path, groups: Any, reason: str, changes: dict[str, Any]
) -> None:
    result = judged(folder, frame(groups), **changes)
    assert any(reason in found for found in result.reasons), result.reasons


def test_too_many_bad_rows_refuse_the_batch(folder: Path) -> None:
    bad = [group(["A", "A"], [choice("a", "b", "w1")], prompt=f"bad {i}") for i in range(4)]
    result = judged(folder, frame([*good(), *bad]), max_failed_share=0.3)
    assert result.reasons == ["failed_share: found 0.4; expected at most 30.0% unusable rows"]


def test_agreement_that_cannot_be_computed_does_not_pass(folder: Path) -> None:
    alone = [group([f"A{i}", f"B{i}"], [choice("a", "b", f"w{i}")], prompt=f"Q{i}") for i in range(6)]
    result = judged(folder, frame(alone), min_agreement=-1.0)
    assert any("agreement that can be computed" in reason for reason in result.reasons)


def test_nothing_left_is_refused(folder: Path) -> None:
    result = judged(folder, frame([group(["A", "A"], [choice("a", "b", "w1")])]))
    assert len(result.kept) == 0
    assert any(reason.startswith("groups: found 0") for reason in result.reasons)
