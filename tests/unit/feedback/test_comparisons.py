"""Blind comparisons: what is drawn, what the tasks do not tell, and the key that does."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.comparisons import (
    ANSWERS,
    EMPTY,
    LABELING_CONFIG,
    SAME,
    TIE,
    is_compared,
    keep_key,
    load_key,
    make_tasks,
    shown_prompt,
)
from rewardloop.feedback.store import FeedbackStore

POLICY = "9f" * 32


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def table(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    """(prompt, reference, policy) as the evaluation of a policy writes it, with a column more."""
    made = [{"prompt": asked(p), "reference": r, "policy": a, "reward": 0.5} for p, r, a in rows]
    return pl.DataFrame(made, schema={**ANSWERS, "reward": pl.Float64})


def many(count: int) -> pl.DataFrame:
    return table([(f"Question {i}?", f"plain {i}", f"aligned {i}") for i in range(count)])


def made(answers: pl.DataFrame, count: int = 100, seed: int = 0, policy: str = POLICY) -> tuple[list[Any], Any]:
    return make_tasks(answers, count=count, seed=seed, policy=policy, run_id="run-1")


def test_the_key_says_where_the_policys_answer_is_and_the_tasks_do_not() -> None:
    tasks, key = made(many(200), count=200)
    assert len(tasks) == key.count == len(key.tasks) == 200
    for task in tasks:
        data = task["data"]
        own, other = ("answer1", "answer2") if key.tasks[data["task"]] == "left" else ("answer2", "answer1")
        assert data[own].startswith("aligned")
        assert data[other].startswith("plain")
        assert data[own].split()[1] == data[other].split()[1] == data["prompt"].split()[1].rstrip("?")
        assert set(data) == {"prompt", "answer1", "answer2", "messages", "task", "comparison"}
        assert set(task) == {"data"}
    sides = Counter(key.tasks.values())
    assert 70 < sides["left"] < 130  # 100 are expected, with a spread of 7
    assert {task["data"]["comparison"] for task in tasks} == {key.id}
    assert POLICY not in json.dumps(tasks)
    assert "run-1" not in json.dumps(tasks)


def test_the_seed_decides_and_the_policy_takes_part() -> None:
    tasks, key = made(many(60), count=20)
    again, same = made(many(60), count=20)
    assert tasks == again
    assert same.id == key.id
    other, different = made(many(60), count=20, seed=1)
    assert different.id != key.id
    assert {one["data"]["prompt"] for one in other} != {one["data"]["prompt"] for one in tasks}
    # Whoever guesses the seed but does not know the policy cannot tell the sides.
    _, guessed = made(many(60), count=60, policy="other")
    _, real = made(many(60), count=60)
    assert set(guessed.tasks).isdisjoint(real.tasks)


def test_prompts_come_first_and_nothing_is_drawn_twice() -> None:
    rows = [(f"q{i}", f"r{i}{turn}", f"p{i}{turn}") for i in range(5) for turn in range(3)]
    tasks, _ = made(table([*rows, *rows]), count=5)
    assert sorted(task["data"]["prompt"] for task in tasks) == ["q0", "q1", "q2", "q3", "q4"]
    tasks, key = made(table([*rows, *rows]), count=100)
    assert Counter(task["data"]["prompt"] for task in tasks) == {f"q{i}": 3 for i in range(5)}
    assert key.count == 15


def test_the_same_two_texts_are_one_task_whoever_wrote_them() -> None:
    tasks, key = made(table([("q", "x", "y"), ("q", "y", "x")]))
    assert len(tasks) == key.count == 1


def test_pairs_without_a_difference_are_left_out_and_counted() -> None:
    rows = [("a", "same", " same\n"), ("b", "x", ""), ("c", "x", "y"), ("d", "same", "same")]
    tasks, key = made(table(rows))
    assert [task["data"]["prompt"] for task in tasks] == ["c"]
    assert key.left_out == {SAME: 2, EMPTY: 1}


def test_nothing_to_compare_is_an_error() -> None:
    message = r"run run-1: there are no answers to compare \(both answers are the same: 1\); evaluate another"
    with pytest.raises(BadInputError, match=message):
        made(table([("a", "same", "same")]))
    with pytest.raises(BadInputError, match=r"no answers to compare \(none\)"):
        made(table([]))


def test_a_prompt_is_shown_as_people_read_it() -> None:
    assert shown_prompt(asked("Why?")) == "Why?"
    turns = [{"role": "system", "content": "Be brief."}, *asked("Why?"), {"role": "assistant", "content": "So."}]
    assert shown_prompt(turns) == "System: Be brief.\n\nUser: Why?\n\nAssistant: So."


def test_the_key_is_kept_once_and_found_again(store: FeedbackStore) -> None:
    _, key = made(many(4))
    assert keep_key(store.storage, key)
    assert not keep_key(store.storage, key)
    assert load_key(store.storage, key.id) == key


def test_a_missing_or_changed_key_is_refused(store: FeedbackStore) -> None:
    _, key = made(many(4))
    with pytest.raises(BadInputError, match=f"comparison {key.id[:12]}: {store.storage.url} has no comparisons/"):
        load_key(store.storage, key.id)
    task, side = next(iter(key.tasks.items()))
    turned = key.model_copy(update={"tasks": {**key.tasks, task: "left" if side == "right" else "right"}})
    keep_key(store.storage, turned)
    with pytest.raises(BadInputError, match="was changed; restore it from a copy"):
        load_key(store.storage, key.id)
    Path(store.storage.path(f"comparisons/{key.id}.json")).write_text("{}")
    with pytest.raises(BadInputError, match="cannot be read"):
        load_key(store.storage, key.id)


@pytest.mark.parametrize("comparison", ["", "../../splits", "F" * 64, 7, None, "9f" * 31])
def test_data_of_other_projects_are_not_taken_for_ours(comparison: object) -> None:
    assert not is_compared({"comparison": comparison, "task": "0" * 16})
    assert is_compared({"comparison": "9f" * 32, "task": "0" * 16})


def test_the_labeling_config_names_what_the_tasks_have() -> None:
    root = ElementTree.fromstring(LABELING_CONFIG)
    tasks, _ = made(many(1))
    texts = {text.attrib["name"]: text.attrib["value"] for text in root.iter("Text")}
    assert texts == {name: f"${name}" for name in ("prompt", "answer1", "answer2")}
    assert set(texts) <= set(tasks[0]["data"])
    (pairwise,) = root.iter("Pairwise")
    assert pairwise.attrib["toName"] == "answer1,answer2"  # the first is the left one
    (choices,) = root.iter("Choices")
    assert choices.attrib["toName"] in texts
    assert [choice.attrib["value"] for choice in root.iter("Choice")] == [TIE]
    assert not re.search("policy|reference", LABELING_CONFIG, re.IGNORECASE)
