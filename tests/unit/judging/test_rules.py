"""Programs as labelers."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import JudgeSettings, RuleSettings
from rewardloop.errors import BadInputError
from rewardloop.judging.judge import Judged
from rewardloop.judging.rules import NO_RULE_SAYS, apply_rules
from tests.unit.judging.test_judge import item


def applied(*items: Any, limit: int = 1 << 20, **rule: Any) -> Judged:
    return apply_rules(list(items), [RuleSettings.model_validate({"name": "r"} | rule)], limit=limit)


def scores(judged: Judged) -> dict[str, float]:
    [group] = judged.groups
    [label] = group.labels
    return dict(label.values())


def test_length_in_characters_and_words() -> None:
    texts = item("one", "one two", "one two three")
    assert scores(applied(texts, kind="length", min=4, max=7)) == {"a": 0, "b": 1, "c": 0}
    assert scores(applied(texts, kind="length", unit="words", max=2)) == {"a": 1, "b": 1, "c": 0}


def test_patterns_that_must_and_must_not_be_found() -> None:
    texts = item("See [1].", "see [1]. Sorry!", "Nothing")
    rule = {"kind": "pattern", "must": [r"\[\d+\]", "^See"], "must_not": ["Sorry"]}
    assert scores(applied(texts, **rule)) == {"a": 1, "b": 0, "c": 0}
    assert scores(applied(texts, **rule | {"must_not": [], "ignore_case": True})) == {"a": 1, "b": 1, "c": 0}


def test_profanity_is_a_number_and_a_verdict_where_wanted() -> None:
    texts = item("You are a fucking idiot.", "Have a nice day.")
    found = scores(applied(texts, kind="profanity"))
    assert found["a"] < 0.3
    assert found["b"] > 0.7
    [group] = applied(texts, kind="profanity", label="acceptable", max_profanity=0.4).groups
    assert group.labels[0].kind == "acceptable"
    assert dict(group.labels[0].values()) == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("exact", {"a": 0, "b": 1, "c": 0}),
        ("normalized", {"a": 1, "b": 1, "c": 0}),
        ("contains", {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_answers_are_compared_with_the_reference_of_their_prompt(
    tmp_path: Path, match: str, expected: dict[str, float]
) -> None:
    place = tmp_path / "right.jsonl"
    place.write_text("".join(json.dumps({"prompt": "Q", "response": text}) + "\n" for text in ("Paris", "Lyon")))
    texts = item(" paris", "Lyon", "It is Paris.", prompt="q ")
    judged = applied(texts, item("Paris", prompt="Other"), kind="reference", references=str(place), match=match)
    assert scores(judged) == expected
    assert judged.left_out == {NO_RULE_SAYS: 1}


def test_each_rule_is_a_labeler_and_a_criterion_of_its_own() -> None:
    rules = [
        RuleSettings(name="short", kind="length", max=3),
        RuleSettings(name="calm", kind="pattern", must_not=("!",), criterion="overall"),
    ]
    judged = apply_rules([item("abc", "abcd!")], rules, limit=1)
    [group] = judged.groups
    assert [label.criterion for label in group.labels] == ["short", "overall"]
    assert {label.labeler_kind for label in group.labels} == {"signal"}
    assert [label.labeler for label in group.labels] == judged.labelers
    assert judged.labelers[0].startswith("rule:short:")
    assert judged.labels == 2


def test_a_labelers_id_changes_with_its_rule_and_its_references(tmp_path: Path) -> None:
    place = tmp_path / "right.jsonl"
    ids = set()
    for text in ("Paris", "Lyon"):
        place.write_text(json.dumps({"prompt": "Q", "response": text}) + "\n")
        ids |= set(applied(item("x"), kind="reference", references=str(place)).labelers)
    for low in (1, 2):
        ids |= set(applied(item("x"), kind="length", min=low).labelers)
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"kind": "length"}, "a length rule needs min, max or both"),
        ({"kind": "length", "min": 5, "max": 4}, "min = 5 is above max = 4"),
        ({"kind": "pattern"}, "needs must, must_not or both"),
        ({"kind": "pattern", "must": ["("]}, "is no regular expression"),
        ({"kind": "reference"}, "needs references"),
        ({"kind": "length", "min": 1, "name": "No spaces"}, "should match pattern"),
    ],
)
def test_rules_that_say_nothing_are_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RuleSettings.model_validate({"name": "r"} | rule)


def test_mistakes_in_files_and_settings_name_their_place(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"judge\.rules: r: references: .*nowhere\.jsonl"):
        applied(item("x"), kind="reference", references=str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(BadInputError, match=r"judge\.rules: there is none; add some"):
        apply_rules([item("x")], [], limit=1)
    two = [{"name": "r", "kind": "length", "min": 1}] * 2
    with pytest.raises(ValueError, match="two rules are called 'r'"):
        JudgeSettings.model_validate({"rules": two})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "http://x/v1"}, "an endpoint needs both"),
        ({"base": "random:tiny", "url": "http://x/v1", "model": "m"}, "one model judges at a time"),
        ({"url": "ftp://x", "model": "m"}, "expected https://"),
        ({"scale": [5, 5]}, "LOWEST, HIGHEST"),
        ({"max_cost": 1}, "max_cost needs price_input and price_output"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        JudgeSettings.model_validate(settings)
