"""Tables of comparisons and arena votes: what an id identifies, which columns are used, and what reasons advise."""

import pytest

from rewardloop.feedback.importers.base import Outcome, Taken
from tests.exports import read, reason, table_of


def _group_ids(outcomes: list[Outcome]) -> set[str]:
    return {outcome.group.group_id for outcome in outcomes if isinstance(outcome, Taken)}


def test_one_question_of_an_arena_is_asked_of_several_pairs_of_models() -> None:
    def turns(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Q"}, {"role": "assistant", "content": text}]

    row = {"question_id": 81, "model_a": "m1", "winner": "model_a", "judge": "j", "conversation_a": turns("x")}
    others = [("m2", "y"), ("m3", "z"), ("m4", "z")]
    rows = [{**row, "model_b": model, "conversation_b": turns(text)} for model, text in others]
    found = read(table_of(*rows), "arena")
    assert len(_group_ids(found)) == 3
    assert {one.group.document_id for one in found if isinstance(one, Taken)} == {"81"}
    without = read(table_of(*rows), "arena", columns={"id": ""})
    assert {one.group.document_id for one in without if isinstance(one, Taken)} == {None}
    assert _group_ids(without).isdisjoint(_group_ids(found))


def test_one_task_is_shown_in_either_order() -> None:
    row = {"id": 7, "prompt": "Q", "response_a": "x", "response_b": "y", "verdict": "a", "labeler": "anna"}
    swapped = {**row, "response_a": "y", "response_b": "x", "labeler": "ben"}
    found = read(table_of(row, swapped, {**row, "verdict": "b"}), "pairwise")
    assert len(_group_ids(found)) == 2
    assert reason(found[2]) == "its labeler says otherwise of these responses at export.jsonl:1"
    nowhere = {key: value for key, value in row.items() if key != "prompt"}
    (alone,) = read(table_of(nowhere), "pairwise")
    assert isinstance(alone, Taken)
    assert alone.group.document_id is None, "votes on one pair of texts would be told apart by the ids of their rows"


@pytest.mark.parametrize("header", ["", "labeler"])
def test_a_column_is_switched_off_by_an_empty_name(header: str) -> None:
    rows = table_of({header: "0", "response_a": "x", "response_b": "y", "verdict": "a"})
    (outcome,) = read(rows, "pairwise", columns={"labeler": ""})
    assert isinstance(outcome, Taken)
    assert outcome.group.labels[0].labeler is None


def test_the_reason_names_the_option_that_takes_the_verdict() -> None:
    rows = table_of({"response_a": "x", "response_b": "y", "verdict": "neither"})
    (outcome,) = read(rows, "pairwise")
    assert reason(outcome).endswith("Say what stands for others: --option both_bad=VALUE")
    (taken,) = read(rows, "pairwise", {"both_bad": "neither"})
    assert isinstance(taken, Taken)
