"""What records of Argilla leave open: which question, which response, and who answered."""

from typing import Any

import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Skipped, Taken, choose, importers, parse_options
from tests.exports import argilla, ranks, read, reason, table_of


def test_of_several_questions_one_must_be_named() -> None:
    table = table_of(argilla(best=["response_1"], worst=["response_2"]))
    with pytest.raises(
        BadInputError, match=r"export.jsonl: has answers to the questions 'best', 'worst'; name the one"
    ):
        read(table, "argilla")
    (outcome,) = read(table, "argilla", {}, {"question": "best"})
    assert ranks(outcome) == {"response_1": 1.0, "response_2": 0.0}


def test_the_only_question_needs_no_name() -> None:
    (outcome,) = read(table_of(argilla(best=["response_2"])), "argilla")
    assert ranks(outcome) == {"response_2": 1.0, "response_1": 0.0}


def test_a_question_that_nobody_answered_stops_the_ingest() -> None:
    with pytest.raises(
        BadInputError, match=r"nobody answered the question 'rankng'; found answers to 'ranking'\. Name"
    ):
        read(table_of(argilla(ranking=[["response_1", "response_2"]])), "argilla", {}, {"question": "rankng"})


def _v1(at: int, answers: list[Any]) -> dict[str, Any]:
    return {"prompt": f"Q{at}", "response_1": "A", "response_2": "B", "ranking": answers, "metadata": "{}"}


def _flat(at: int, answers: dict[str, Any]) -> dict[str, Any]:
    return {"id": str(at), "status": "pending", "prompt": f"Q{at}", "response_1": "A", "response_2": "B", **answers}


_OF_V1 = {"user_id": "u", "value": {"rank": [1, 2], "value": ["response_1", "response_2"]}, "status": "submitted"}
_OF_FLAT = {
    "ranking.responses": [["response_2", "response_1"]],
    "ranking.responses.users": ["u"],
    "ranking.responses.status": ["submitted"],
}
_LATE: list[tuple[str, list[dict[str, Any]]]] = [
    ("argilla", [argilla()] * 20 + [argilla(ranking=[["response_1", "response_2"]])] * 5),
    ("argilla-v1", [_v1(at, []) for at in range(20)] + [_v1(at, [_OF_V1]) for at in range(20, 25)]),
    ("argilla-flat", [_flat(at, {}) for at in range(20)] + [_flat(at, _OF_FLAT) for at in range(20, 25)]),
]


@pytest.mark.parametrize(("format", "records"), _LATE, ids=[case[0] for case in _LATE])
@pytest.mark.parametrize("columns", [{}, {"question": "ranking"}])
def test_answers_are_found_behind_records_that_wait_for_theirs(
    format: str, records: list[dict[str, Any]], columns: dict[str, str]
) -> None:
    assert choose([table_of(*records)], "auto", {}, columns).importer.name == format
    outcomes = read(table_of(*records), format, {}, columns)
    assert [type(outcome) for outcome in outcomes] == [Skipped] * 20 + [Taken] * 5


def test_the_usual_question_is_learned_from_wherever_its_answers_begin() -> None:
    others, ranked = [argilla(tone=["response_1"])] * 20, [argilla(ranking=[["response_2", "response_1"]])] * 5
    outcomes = read(table_of(*others, *ranked), "argilla")
    assert [type(outcome) for outcome in outcomes] == [Skipped] * 20 + [Taken] * 5


def test_a_second_question_that_begins_later_must_be_told_from_the_first() -> None:
    records = [argilla(best=["response_1"])] * 20 + [argilla(worst=["response_2"])]
    with pytest.raises(BadInputError, match="has answers to the questions 'best', 'worst'; name the one"):
        read(table_of(*records), "argilla")


def test_answers_are_called_what_the_option_says() -> None:
    table = table_of(argilla(best=["first=", "neither"]))
    left, tie = read(table, "argilla", {"answers": "first==response_1,2nd=response_2", "tie": "neither"})
    assert ranks(left) == {"response_1": 1.0, "response_2": 0.0}
    assert ranks(tie) == {"response_1": 1.0, "response_2": 1.0}
    with pytest.raises(BadInputError, match="--option answers=first: expected ANSWER=FIELD,ANSWER=FIELD"):
        parse_options(importers()["argilla"], {"answers": "first"}, {})


def test_the_best_of_several_is_preferred_to_each_other_one() -> None:
    fields = {"response_1": "A", "response_2": "B", "response_3": "C"}
    (outcome,) = read(table_of(argilla(fields, best=["response_2"])), "argilla")
    assert isinstance(outcome, Taken)
    assert [(label.kind, dict(label.values())) for label in outcome.group.labels] == [
        ("choice", {"response_2": 1.0, "response_1": 0.0}),
        ("choice", {"response_2": 1.0, "response_3": 0.0}),
    ]
    assert outcome.group.prompt == ()


def test_several_good_answers_are_no_ranking() -> None:
    fields = {"response_1": "A", "response_2": "B", "response_3": "C"}
    (outcome,) = read(table_of(argilla(fields, good=[["response_3", "response_1"]])), "argilla")
    assert "good: names 2 of 3 responses; a ranking has all of them" in reason(outcome)


def test_a_rating_is_about_the_only_response() -> None:
    fields = {"prompt": "Q", "response_1": "A"}
    (outcome,) = read(table_of(argilla(fields, quality=[4])), "argilla", {"scale": "1..5", "criterion": "quality"})
    assert isinstance(outcome, Taken)
    (label,) = outcome.group.labels
    assert (label.kind, label.criterion, dict(label.values())) == ("rating", "quality", {"response_1": 4.0})


def test_a_rating_that_does_not_tell_its_response_is_rejected() -> None:
    table = table_of(argilla(ranking=[["response_1", "response_2"]], tone=[4]))
    (outcome,) = read(table, "argilla", {"criteria": "tone"})
    assert "tone: does not tell which of response_1, response_2 it rates" in reason(outcome)


@pytest.mark.parametrize("by", [True, "", ["u1"], {"id": "u1"}])
def test_user_ids_that_are_none_are_rejected_and_not_quoted(by: Any) -> None:
    record = argilla()
    record["responses"] = {"ranking": [{"value": ["response_1", "response_2"], "user_id": by}]}
    (outcome,) = read(table_of(record), "argilla")
    assert reason(outcome) == "user_id: expected an id"


def test_answers_that_are_no_objects_reject_the_record() -> None:
    good = argilla(ranking=[["response_1", "response_2"]])
    bad = good | {"responses": {"ranking": ["response_1"]}}
    _, outcome = read(table_of(good, bad), "argilla")
    assert reason(outcome) == "responses.ranking: expected objects with a value"


@pytest.mark.parametrize("names", ["", "+", "A+"])
def test_responses_are_names_or_a_pattern(names: str) -> None:
    with pytest.raises(
        BadInputError, match=r"responses=.*: expected names with \+ between, or a pattern like response_#"
    ):
        parse_options(importers()["argilla"], {}, {"responses": names})
