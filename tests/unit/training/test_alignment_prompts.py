"""Prompts find their split by themselves, no prompt is in two, and all that are left out are counted."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from rewardloop.config import AlignSettings, PolicyEvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.text_sets import TEXTS
from rewardloop.records import prompt_key
from rewardloop.training.alignment_prompts import (
    IN_FEEDBACK,
    NOT_NEEDED,
    TOO_LONG,
    AlignmentPrompts,
    draw_toxicity_prompts,
    place_prompts,
)


class Bytes:
    """A policy that reads a byte as a token."""

    def __init__(self, context: int = 1000) -> None:
        self.context = context

    def prompt_ids(self, prompt: Sequence[dict[str, str]]) -> list[int]:
        return list("".join(message["content"] for message in prompt).encode())


def table(*texts: str) -> pl.DataFrame:
    rows = [{"prompt": [{"role": "user", "content": text}], "response": None, "key": key(text)} for text in texts]
    return pl.DataFrame(rows, schema=TEXTS)


def key(text: str) -> str:
    return prompt_key([("user", text)])


def place(
    texts: Sequence[str], feedback: Sequence[str] = (), *, context: int = 1000, prompts: int = 1000, **align: Any
) -> AlignmentPrompts:
    return place_prompts(
        table(*texts),
        {key(text) for text in feedback},
        Bytes(context),  # type: ignore[arg-type]
        AlignSettings.model_validate({"prompts": "p.jsonl", "validation_prompts": 1000} | align),
        PolicyEvaluationSettings(prompts=prompts, samples_per_prompt=3),
    )


def splits(placed: AlignmentPrompts) -> dict[str, str]:
    return dict(placed.table.select("key", "split").rows())


TEXT = [f"prompt {number}" for number in range(400)]


def test_every_prompt_has_one_split_of_about_its_share() -> None:
    placed = place(TEXT, validation_share=0.1, test_share=0.3)
    assert placed.left_out == {}
    assert sorted(placed.table["key"]) == sorted(map(key, TEXT))
    counts = dict(placed.table["split"].value_counts().rows())
    assert abs(counts["validation"] - 40) < 20
    assert abs(counts["test"] - 120) < 35
    assert counts["train"] == 400 - counts["validation"] - counts["test"]
    assert placed.table.schema["prompt_ids"] == pl.List(pl.Int32)
    assert all(
        bytes(ids) == prompt[0]["content"].encode() for prompt, ids in placed.table["prompt", "prompt_ids"].rows()
    )
    # How often each is answered ahead of time.
    assert dict(placed.table.select("split", "samples").unique().rows()) == {"train": 1, "validation": 1, "test": 3}


def test_a_split_depends_on_nothing_but_the_prompt() -> None:
    whole = splits(place(TEXT))
    others = place([*reversed(TEXT[100:]), *(f"another {n}" for n in range(50))], TEXT[:20], seed=5, learning_rate=1.0)
    found = splits(others)
    assert {key(text): found[key(text)] for text in TEXT[100:]} == {key(text): whole[key(text)] for text in TEXT[100:]}
    # As feedback sees it, case and spaces are no difference.
    assert splits(place([f"  {text.upper()} " for text in TEXT])) == whole
    # A larger test split takes from the others only what it needs.
    larger = splits(place(TEXT, test_share=0.4))
    assert all(larger[name] == "test" for name, split in whole.items() if split == "test")


def test_prompts_of_the_feedback_are_left_out_and_counted() -> None:
    placed = place(TEXT, [text.title() for text in TEXT[:100]])
    assert placed.left_out == {IN_FEEDBACK: 100}
    assert not set(placed.table["key"]) & {key(text) for text in TEXT[:100]}
    assert len(placed.table) == 300


def test_prompts_that_are_too_long_are_left_out_and_counted() -> None:
    long = [f"{'x' * 50} {number}" for number in range(30)]  # 52 and 53 bytes
    assert place([*TEXT, *long], max_prompt_tokens=52).left_out == {TOO_LONG: 20}
    # The policy's context is for the answer too.
    generation = {"max_new_tokens": 48}
    assert place([*TEXT, *long], context=100, generation=generation).left_out == {TOO_LONG: 20}
    assert place([*TEXT, *long], context=101, generation=generation).left_out == {}
    # A prompt has one reason.
    assert place([*TEXT, *long], long[:10], max_prompt_tokens=40).left_out == {IN_FEEDBACK: 10, TOO_LONG: 20}


def test_more_prompts_than_needed_are_counted_and_drawn_by_the_seed() -> None:
    few = {"episodes": 41, "samples_per_prompt": 4, "validation_prompts": 7, "prompts": 13}
    placed = place(TEXT, TEXT[:50], **few)
    # 41 answers of 4 to a prompt take 11 prompts.
    assert dict(placed.table["split"].value_counts().rows()) == {"train": 11, "validation": 7, "test": 13}
    assert placed.left_out == {IN_FEEDBACK: 50, NOT_NEEDED: 400 - 50 - 31}
    assert splits(place(TEXT, TEXT[:50], **few)) == splits(placed)
    assert splits(place(TEXT, TEXT[:50], seed=1, **few)).keys() != splits(placed).keys()


def test_a_prompt_that_comes_twice_counts_once() -> None:
    placed = place([*TEXT, *(text.upper() for text in TEXT)])
    assert len(placed.table) == 400
    assert placed.left_out == {}
    assert "prompt 0" in [prompt[0]["content"] for prompt in placed.table["prompt"]]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_prompts_is_refused(split: str) -> None:
    mine = {name for name, found in splits(place(TEXT)).items() if found == split}
    chosen = [text for text in TEXT if key(text) in mine]
    with pytest.raises(BadInputError) as refused:
        place(TEXT, chosen)
    count = len(chosen)
    assert str(refused.value).startswith(
        f"align.prompts: p.jsonl: of 400 prompts none is left for {split} ({count} left out: {IN_FEEDBACK}); "
    )
    with pytest.raises(BadInputError, match=r"^align\.prompts: p\.jsonl: of 1 prompts none is left for [a-z]+; add"):
        place(["one"])
    with pytest.raises(BadInputError, match=r"none is left for train \(400 left out: is longer than"):
        place(TEXT, max_prompt_tokens=2)


def test_prompts_for_toxicity_are_counted_too() -> None:
    align = AlignSettings.model_validate({"prompts": "p.jsonl", "max_prompt_tokens": 9})
    evaluation = PolicyEvaluationSettings(prompts=60, samples_per_prompt=3, toxicity_prompts="toxic.jsonl")
    drawn = draw_toxicity_prompts(table(*TEXT, "PROMPT 0"), Bytes(), align, evaluation)  # type: ignore[arg-type]
    assert drawn.left_out == {TOO_LONG: 300, NOT_NEEDED: 40}
    assert drawn.table.select("split", "samples").unique().rows() == [("toxicity", 1)]
    assert drawn.table.columns == place(TEXT).table.columns
    none = align.model_copy(update={"max_prompt_tokens": 2})
    with pytest.raises(
        BadInputError, match=r"^policy_evaluation\.toxicity_prompts: toxic\.jsonl: each of 400 prompts is"
    ):
        draw_toxicity_prompts(table(*TEXT), Bytes(), none, evaluation)  # type: ignore[arg-type]
