"""Planted duplicates, shared documents and near duplicates are found; clean splits are clean."""

import math

import polars as pl
import pytest

from rewardloop.config import EvaluationSettings
from rewardloop.evaluation.leaks import leak_check
from rewardloop.evidence.measures import LeakEvidence, OverlapLine
from rewardloop.tables import ITEMS
from tests.unit.evaluation.tables import tables

SETTINGS = EvaluationSettings()
QUESTIONS = [
    "How do I boil an egg?",
    "Where is the nearest station?",
    "Why does the moon change its shape?",
    "Which trees keep their leaves in winter?",
]


def table(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    """ITEMS of (split, document, prompt or nothing, response)."""
    return pl.DataFrame(
        [
            {
                "item": item,
                "group": 0,
                "split": split,
                "document": document,
                "prompt": [{"role": "user", "content": prompt}] if prompt else [],
                "response": response,
                "response_id": "a",
                "labels": 1,
                "random": True,
            }
            for item, (split, document, prompt, response) in enumerate(rows)
        ],
        schema=ITEMS,
    )


def counts(found: LeakEvidence) -> tuple[int | None, int | None, int, int]:
    """Texts and documents shared with training, then the same between held-out splits."""
    return (
        found.duplicates_with_train,
        found.documents_with_train,
        found.duplicates_held_out,
        found.documents_held_out,
    )


def between(found: LeakEvidence, first: str, second: str) -> OverlapLine:
    (line,) = [line for line in found.overlaps if (line.first, line.second) == (first, second)]
    return line


def test_clean_splits() -> None:
    items, _ = tables()
    items = items.with_columns((pl.col("response") + " " + pl.col("document")).alias("response"))
    found = leak_check(items, SETTINGS)
    assert (found.compared, counts(found)) == ("responses", (0, 0, 0, 0))
    assert len(found.overlaps) == 10
    assert not any(line.texts or line.items or line.documents or line.examples for line in found.overlaps)


def test_a_test_prompt_that_was_trained_on() -> None:
    found = leak_check(
        table(
            ("train", "a", QUESTIONS[0], "Ten minutes."),
            ("train", "b", QUESTIONS[1], "To the left."),
            ("test", "c", f" {QUESTIONS[0].upper()} ", "Eight minutes."),
            ("test", "c", f" {QUESTIONS[0].upper()} ", "No idea."),
            ("test", "d", QUESTIONS[2], "Ten minutes."),  # the same response to another prompt is no leak
            ("golden", "e", QUESTIONS[1], "It is far."),
            ("calibration", "f", QUESTIONS[3], "Firs."),
        ),
        SETTINGS,
    )
    # Two questions were trained on; no document is in two splits.
    assert (found.compared, counts(found)) == ("prompts", (2, 0, 0, 0))
    line = between(found, "train", "test")
    assert (line.texts, line.items, line.documents, line.examples) == (1, 2, 0, ["how do i boil an egg?"])
    assert between(found, "train", "golden").items == 1
    assert between(found, "calibration", "test").items == 0
    assert found.nearest is not None
    assert found.nearest.quantiles[-1] == (1.0, pytest.approx(1.0))


def test_a_text_in_two_held_out_splits_and_a_document_in_two_splits() -> None:
    found = leak_check(
        table(
            ("train", "a", "", "The film is long."),
            ("calibration", "b", "", "The film is good."),
            ("test", "c", "", "the  film is GOOD."),
            ("test", "a", "", "Nothing of it is said again."),
            ("validation", "d", "", "Quite another text."),
        ),
        SETTINGS,
    )
    assert (found.compared, counts(found)) == ("responses", (0, 1, 1, 0))
    assert between(found, "calibration", "test").texts == 1
    line = between(found, "train", "test")
    assert (line.texts, line.documents) == (0, 1)


def test_a_prompt_is_not_a_response() -> None:
    found = leak_check(table(("train", "a", QUESTIONS[0], "x"), ("test", "b", "", QUESTIONS[0])), SETTINGS)
    assert (found.compared, counts(found)) == ("prompts, else responses", (0, 0, 0, 0))


def test_the_same_question_in_nearly_the_same_words() -> None:
    asked = (
        "I have moved the settings of our server to another folder, and now it does not start any more. The log says "
        "that a file cannot be read. Where do I have to look first?"
    )
    near = asked.replace("another folder", "another place").replace(".", "!")
    rows = [("train", f"t{index}", question, "x") for index, question in enumerate([*QUESTIONS, asked])]
    found = leak_check(table(*rows, ("test", "a", near, "x"), ("test", "b", "How do I boil an onion?", "x")), SETTINGS)
    assert counts(found) == (0, 0, 0, 0)
    assert found.nearest is not None
    first, second = found.nearest.examples
    assert (first.test, first.train) == (near.lower(), asked.lower())
    assert 0.9 <= first.similarity < 1
    assert second.train == QUESTIONS[0].lower()
    assert (found.nearest.near_duplicates.value, found.nearest.near_duplicates.count) == (0.5, 2)
    assert found.nearest.near_duplicate == 0.9
    stricter = leak_check(table(*rows, ("test", "a", near, "x")), EvaluationSettings(near_duplicate=0.99)).nearest
    assert stricter is not None
    assert stricter.near_duplicates.value == 0


def test_punctuation_does_not_hide_a_text() -> None:
    found = leak_check(
        table(("train", "a", "", "It is good, is it?"), ("test", "b", "", "It is good! Is it...")), SETTINGS
    )
    assert found.nearest is not None
    assert (found.duplicates_with_train, found.nearest.near_duplicates.value) == (0, 1.0)


def test_similarity_by_hand() -> None:
    # 4-grams of " ab " and " cd ": one each. "ab" stands in all 3 texts: idf 1; "cd" in 2: ln(4/3) + 1.
    found = leak_check(
        table(("train", "a", "", "ab"), ("train", "b", "", "ab cd"), ("test", "c", "", "cd ab ")), SETTINGS
    )
    assert found.nearest is not None
    assert found.nearest.quantiles[0] == (0.5, pytest.approx(1.0))  # the order of words does not matter
    found = leak_check(table(("train", "a", "", "ab"), ("test", "c", "", "ab cd")), SETTINGS)
    assert found.nearest is not None
    rare = math.log(3 / 2) + 1
    assert found.nearest.quantiles[0] == (0.5, pytest.approx(1 / math.hypot(1, rare)))


def test_the_nearest_text_is_found_beyond_the_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewardloop.evaluation.leaks._CHUNK", 3)
    rows = [("train", f"t{index}", "", f"number {index} {'xyzw'[index % 4] * 6}") for index in range(20)]
    found = leak_check(table(*rows, ("test", "a", "", "number 17 yyyyyy")), SETTINGS).nearest
    assert found is not None
    assert found.examples[0].train == "number 17 yyyyyy"
    assert found.examples[0].similarity == pytest.approx(1)


def test_the_sample_is_capped_and_seeded() -> None:
    items, _ = tables()
    found = leak_check(items, EvaluationSettings(leak_items=7)).nearest
    assert found is not None
    assert (found.texts, found.near_duplicates.count) == (7, 7)
    assert found.of == items.filter(split="test")["response"].str.to_lowercase().n_unique()
    assert found == leak_check(items, EvaluationSettings(leak_items=7)).nearest


@pytest.mark.parametrize("only", ["train", "test"])
def test_what_cannot_be_compared_is_none(only: str) -> None:
    items, _ = tables()
    found = leak_check(items.filter(split=only), SETTINGS)
    assert found.nearest is None
    assert found.overlaps == []
    expected = 0 if only == "train" else None
    assert counts(found) == (expected, expected, 0, 0)


def test_a_document_in_two_held_out_splits() -> None:
    rows = [("train", "a", "", "One."), ("test", "b", "", "Two."), ("golden", "b", "", "Three.")]
    assert counts(leak_check(table(*rows), SETTINGS)) == (0, 0, 0, 1)
