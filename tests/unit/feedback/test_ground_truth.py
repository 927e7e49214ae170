"""What manifests of SageMaker Ground Truth leave open: which label, and where in a custom answer it stands."""

import json
from typing import Any

import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Rejected, Taken
from tests.exports import ranks, read, reason, table_of


def manifest(value: Any, name: str = "pref", **metadata: Any) -> dict[str, Any]:
    twin = {"type": "groundtruth/custom", "human-annotated": "yes", **metadata}
    texts = {"prompt": "Q", "response_1": "A", "response_2": "B", "response_3": "C"}
    return {**texts, name: value, f"{name}-metadata": twin}


def said(*contents: Any) -> dict[str, Any]:
    workers = [{"workerId": f"w{at}", "annotationData": {"content": one}} for at, one in enumerate(contents)]
    return {"annotationsFromAllWorkers": workers}


def test_of_several_labels_one_must_be_named() -> None:
    line = manifest(0, **{"class-name": "response_1"}) | manifest(1, "tone", **{"class-name": "response_2"})
    with pytest.raises(BadInputError, match=r"found the labels pref, tone; name one: --column label=NAME"):
        read(table_of(line), "ground-truth")
    (outcome,) = read(table_of(line), "ground-truth", {"criterion": "tone"}, {"label": "tone"})
    assert isinstance(outcome, Taken)
    assert {label.criterion for label in outcome.group.labels} == {"tone"}
    assert dict(outcome.group.labels[0].values()) == {"response_2": 1.0, "response_1": 0.0}


def test_where_the_answer_stands_must_be_said() -> None:
    (outcome,) = read(table_of(manifest(said('{"form": {"best": {"a": true}, "why": "x"}}'))), "ground-truth")
    assert reason(outcome) == (
        "annotation 1: content: say where in it the answer stands: --option path=WAY; found form.best, form.why"
    )


@pytest.mark.parametrize(
    "content", ['{"order": ["response_3", "response_1"]}', '{"order": {"response_3": 1, "response_1": "2"}}']
)
def test_rankings_are_read_only_where_an_option_says_so(content: str) -> None:
    table = table_of(manifest(said(content)))
    (outcome,) = read(table, "ground-truth", {"path": "order", "answer": "ranking"})
    assert ranks(outcome) == {"response_3": 1, "response_1": 2}
    (untold,) = read(table, "ground-truth", {"path": "order"})
    assert "expected the name of a response (response_1, response_2, response_3)" in reason(untold)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": "\\ud800"}', "expected JSON as a text"),
        ('{"a": 1' + "0" * 5000 + "}", "expected JSON as a text"),
        ("[" * 5000, "expected JSON as a text"),
        ("[1]", "found a JSON list; expected an object"),
        (7, "content: found a JSON int; expected JSON as a text"),
        ('{"a": {"x": true, "y": true}}', "2 of 2 boxes are checked; expected one"),
        ('{"a": {"b": 1}}', 'found {"b": 1}; expected the name of a response'),
        ('{"b": [1, {"c": 2}]}', "content: has no 'a'; found b"),
    ],
)
def test_contents_that_cannot_be_read_are_rejected(content: Any, message: str) -> None:
    (outcome,) = read(table_of(manifest(said(content))), "ground-truth", {"path": "a"})
    assert message in reason(outcome)


def test_a_way_may_lead_through_a_list() -> None:
    (outcome,) = read(
        table_of(manifest(said({"answers": [{"best": "response_1"}]}))), "ground-truth", {"path": "answers.0.best"}
    )
    assert isinstance(outcome, Taken)
    assert len(outcome.group.labels) == 2


def test_a_way_may_lead_into_json_inside_of_json() -> None:
    hidden = {"annotations": json.dumps({"picked": [{"best": "response_2"}]})}
    line = manifest(said(json.dumps(hidden)))
    (outcome,) = read(table_of(line), "ground-truth", {"path": "annotations.picked.0.best"})
    assert isinstance(outcome, Taken)


def test_quarantine_holds_the_answer_and_nothing_else_of_what_was_submitted() -> None:
    line = manifest(said('{"a": "response_9", "comment": "I am Anna"}', '{"b": "I am Ben"}'))
    for outcome in read(table_of(line), "ground-truth", {"path": "a"}):
        assert isinstance(outcome, Rejected)
        assert "I am" not in str(outcome)
    assert "response_9" in str(read(table_of(line), "ground-truth", {"path": "a"})[0])


def test_no_reason_quotes_what_cannot_be_read() -> None:
    broken = manifest(said('{"workerEmail": "anna@mail.example", "a": ')) | {"source": "{'worker': 'anna'}"}
    without = manifest(0) | {"pref-metadata": {"type": "groundtruth/custom"}}
    no_object = manifest(0) | {"pref-metadata": ["anna"]}
    first, *others, last = read(table_of(broken, without, no_object), "ground-truth", {"path": "a"}, {"label": "pref"})
    assert reason(first) == "annotation 1: content: found a text that is no JSON; expected JSON as a text"
    assert reason(last) == "pref-metadata: found a JSON list; expected an object"
    assert "anna" not in str([reason(one) for one in (first, *others, last)])


def test_one_annotation_that_cannot_be_read_leaves_the_others() -> None:
    value = said('{"a": "response_1"}', '{"a": "response_2"}', '{"a": "response_2"}')
    value["annotationsFromAllWorkers"][0]["annotationData"] = {"s3uri": "s3://bucket/w0.json"}
    value["annotationsFromAllWorkers"][1] = "w1"
    first, second, third = read(table_of(manifest(value)), "ground-truth", {"path": "a"})
    assert reason(first).startswith(
        "annotation 1: content: is in s3://bucket/w0.json; fetch that file and put its JSON"
    )
    assert reason(second) == "annotation 2: found a JSON str; expected an object"
    assert isinstance(third, Taken)


def test_what_ground_truth_labeled_by_itself_is_a_models() -> None:
    line = manifest(0, **{"class-name": "response_1", "human-annotated": "no"})
    (outcome,) = read(table_of(line), "ground-truth")
    assert isinstance(outcome, Taken)
    assert {(label.labeler, label.labeler_kind) for label in outcome.group.labels} == {(None, "model")}


def test_a_second_label_that_begins_later_must_be_named_too() -> None:
    lines = [manifest(0, **{"class-name": "response_1"}) for _ in range(25)]
    later = lines[0] | {k.replace("pref", "tone"): v for k, v in lines[0].items() if k.startswith("pref")}
    with pytest.raises(BadInputError, match="found the labels pref, tone; name one"):
        read(table_of(*lines, later), "ground-truth")
