"""Records are valid by construction, and documents have one key however their text is typed."""

import pytest
from pydantic import ValidationError

from rewardloop.records import FeedbackGroup, document_key
from rewardloop.tables import FEEDBACK, canonical_json, feedback_frame


def group(**changes: object) -> FeedbackGroup:
    tree: dict[str, object] = {
        "group_id": "g",
        "prompt": [{"role": "user", "content": "Q"}],
        "responses": [{"response_id": "a", "content": "A"}, {"response_id": "b", "content": "B"}],
        "labels": [{"kind": "choice", "chosen": "a", "rejected": "b"}],
    }
    return FeedbackGroup.model_validate(tree | changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": [{"kind": "choice", "chosen": "a", "rejected": "c"}]}, "names response 'c'; known are ['a', 'b']"),
        ({"labels": [{"kind": "choice", "chosen": "a", "rejected": "a"}]}, "write a tie as equal ranks"),
        ({"labels": [{"kind": "rating", "scores": {"a": float("nan")}}]}, "expected a finite number"),
        ({"labels": [{"kind": "rating", "scores": {"a": 6}, "scale": [1, 5]}]}, "is 6.0; expected 1.0 to 5.0"),
        ({"labels": [{"kind": "ranking", "ranks": {"a": 0}}]}, "greater than or equal to 1"),
        ({"labels": []}, "at least 1 item"),
        ({"responses": [{"response_id": "a", "content": "A"}] * 2}, "not unique inside the group"),
        ({"extra": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        group(**changes)
    assert says in str(caught.value)


def test_document_is_the_prompt_whatever_its_spacing_and_case() -> None:
    other = group(
        prompt=[{"role": "user", "content": "  ｑ "}],
        responses=[{"response_id": "a", "content": "Z"}],
        labels=[{"kind": "acceptable", "values": {"a": True}}],
    )
    assert document_key(other) == document_key(group())
    assert document_key(group(prompt=[{"role": "user", "content": "Q?"}])) != document_key(group())


def test_document_without_prompt_is_the_document_id_then_the_text() -> None:
    one = {
        "prompt": [],
        "responses": [{"response_id": "a", "content": "A film"}],
        "labels": [{"kind": "acceptable", "values": {"a": True}}],
    }
    same_text = group(**one)
    assert document_key(same_text) == document_key(group(**one | {"group_id": "other"}))
    assert document_key(group(**one, document_id="d", source="s")) == document_key(
        group(**one | {"responses": [{"response_id": "a", "content": "another"}]}, document_id="d", source="s")
    )
    assert document_key(group(**one, document_id="d", source="t")) != document_key(
        group(**one, document_id="d", source="s")
    )


def test_table_row_holds_the_record() -> None:
    frame = feedback_frame([("file.jsonl:1", group()), ("file.jsonl:2", group())])
    assert frame.schema == FEEDBACK
    assert frame["record"].n_unique() == 1
    assert frame["labels"][0].to_list()[0]["values"] == [
        {"response_id": "a", "value": 1.0},
        {"response_id": "b", "value": 0.0},
    ]
    assert FeedbackGroup.model_validate_json(canonical_json(group())) == group()
