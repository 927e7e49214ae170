"""Answers that repeat the prompt beside them: it is taken off once, and nothing else is."""

from typing import Any

import pytest

from rewardloop.feedback.importers.base import Taken
from tests.exports import read, reason, table_of

SYSTEM, USER = ({"role": role, "content": text} for role, text in (("system", "S"), ("user", "Q")))
MORE = {"role": "user", "content": "More"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def answers(row: dict[str, Any], **options: str) -> tuple[list[str], list[str]]:
    (outcome,) = read(table_of(row), "pairs", options)
    assert isinstance(outcome, Taken), outcome
    group = outcome.group
    return [message.content for message in group.prompt], [one.content for one in group.responses]


@pytest.mark.parametrize(
    "prompt", ["\n\nHuman: Q\n\nAssistant:", "Human: Q\n\nAssistant: ", "\n\nHuman: Q", "Q", " Q\n"]
)
def test_transcripts(prompt: str) -> None:
    head = "\n\nHuman: Q\n\nAssistant:"
    row = {"prompt": prompt, "chosen": f"{head} x", "rejected": f"{head} y"}
    assert answers(row) == (["Q"], ["x", "y"])
    # Where the conversation goes on, what both say belongs to the prompt.
    more = f"{head} A\n\nHuman: More\n\nAssistant:"
    row = {"prompt": prompt, "chosen": f"{more} x", "rejected": f"{more} y"}
    assert answers(row) == (["Q", "A", "More"], ["x", "y"])
    (outcome,) = read(table_of({**row, "rejected": f"{head} y"}), "pairs")
    assert "part before the last answer" in reason(outcome)


def test_transcripts_that_do_not_begin_with_the_prompt_are_answers() -> None:
    dialogues = {"chosen": "Human: Hi\n\nAssistant: Hello", "rejected": "Human: Hi\n\nAssistant: What?"}
    assert answers({"prompt": "Write a dialogue.", **dialogues}) == (
        ["Write a dialogue."],
        ["Human: Hi\n\nAssistant: Hello", "Human: Hi\n\nAssistant: What?"],
    )


@pytest.mark.parametrize(
    ("prompt", "repeated", "expected"),
    [
        ([SYSTEM, USER], [USER], ["S", "Q"]),
        ([SYSTEM, USER], [SYSTEM, USER], ["S", "Q"]),
        ([SYSTEM, USER], [], ["S", "Q"]),
        ([SYSTEM, USER], [USER, said("A"), MORE], ["S", "Q", "A", "More"]),
        ([SYSTEM], [USER], ["S", "Q"]),
        ([USER, said("A"), USER], [USER], ["Q", "A", "Q"]),
    ],
)
def test_lists_of_messages(prompt: list[Any], repeated: list[Any], expected: list[str]) -> None:
    row = {"prompt": prompt, "chosen": [*repeated, said("x")], "rejected": [*repeated, said("y")]}
    assert answers(row) == (expected, ["x", "y"])


def test_plain_texts_only_when_asked() -> None:
    row = {"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi!"}
    assert answers(row) == (["Hi"], ["Hi there", "Hi!"])
    long = {"prompt": "Once upon a time", "chosen": "Once upon a time was x", "rejected": "Once upon a time was y"}
    assert answers(long, strings="common-prefix") == (["Once upon a time"], [" was x", " was y"])
    one = {**long, "rejected": "y"}
    assert answers(one, strings="common-prefix") == (["Once upon a time"], ["Once upon a time was x", "y"])
