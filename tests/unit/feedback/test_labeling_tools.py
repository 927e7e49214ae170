"""Importers of labeling tools' exports against golden files written by hand, and what each leaves open."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import Settings, ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import (
    Outcome,
    Rejected,
    Repeated,
    Skipped,
    Taken,
    choose,
    importers,
    parse_options,
)
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.reading import Source, read_sources
from rewardloop.feedback.store import FeedbackStore
from rewardloop.tables import canonical_json

DATA = Path(__file__).parent / "data"
BUCKETS = {"buckets": "good,bad", "within": "ties", "criteria": "tone,facts", "scale": "1..5"}
ITEMS = {"prompt": "question", "items": "answers", "id": "key", "body": "text"}
CLASSES = {"answers": "response 1=response_1,response 2=response_2", "tie": "about the same", "min_confidence": "0.6"}
LABELS = {"answers": "Response 1=response_1,Response 2=response_2", "path": "response.label"}

# file, format, options, columns
CASES: list[tuple[str, str, dict[str, str], dict[str, str]]] = [
    ("label_studio_pairwise.json", "label-studio-pairwise", {"tie": "same", "criteria": "tone,facts"}, {}),
    ("label_studio_ranker.json", "label-studio-ranker", {}, {}),
    ("label_studio_buckets.json", "label-studio-ranker", BUCKETS, ITEMS),
    ("argilla.json", "argilla", {"criteria": "tone", "scale": "1..5", "tie": "same"}, {}),
    ("argilla_flat.jsonl", "argilla-flat", {}, {}),
    ("argilla_v1.jsonl", "argilla-v1", {}, {"prompt": "question", "responses": "A+B+C", "segment": "topic"}),
    ("ground_truth.jsonl", "ground-truth", CLASSES, {"prompt": "source"}),
    ("ground_truth_custom.jsonl", "ground-truth", LABELS, {"prompt": "source"}),
]


def table(name: str) -> Table:
    (source,) = read_sources([DATA / name])
    return Table.of(source)


def table_of(*rows: Any) -> Table:
    return Table.of(Source("export.jsonl", "".join(json.dumps(row) + "\n" for row in rows), "0" * 64))


def read(
    table: Table, name: str, options: dict[str, str] | None = None, columns: dict[str, str] | None = None
) -> list[Outcome]:
    chosen = importers()[name]
    return list(chosen.read(table, parse_options(chosen, options or {}, columns or {}), ValidationSettings()))


def shown(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the golden files write it."""
    if isinstance(outcome, Taken):
        group = json.loads(canonical_json(outcome.group))
        assert group["group_id"].startswith("c_")
        lines = [int(row.place.rpartition(":")[2]) for row in outcome.rows]
        return {"lines": lines, "group": group | {"group_id": "*"}}
    lines = [int(outcome.row.place.rpartition(":")[2])]
    if isinstance(outcome, Repeated):
        return {"lines": lines, "repeated": True}
    return {"lines": lines, "skipped" if isinstance(outcome, Skipped) else "rejected": outcome.reason}


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


@pytest.mark.parametrize(("name", "format", "options", "columns"), CASES, ids=[case[0] for case in CASES])
def test_golden_file(name: str, format: str, options: dict[str, str], columns: dict[str, str]) -> None:
    expected = (DATA / name).with_suffix(".expected.jsonl").read_text(encoding="utf-8")
    found = [shown(outcome) for outcome in read(table(name), format, options, columns)]
    assert found == [json.loads(line) for line in expected.split("\n") if line]


@pytest.mark.parametrize(("name", "format", "options", "columns"), CASES, ids=[case[0] for case in CASES])
def test_auto_takes_exactly_this_importer(
    name: str, format: str, options: dict[str, str], columns: dict[str, str]
) -> None:
    for given in ((options, columns), ({}, {})):
        choice = choose([table(name)], "auto", *given)
        assert choice.importer.name == format
        assert choice.reason


@pytest.mark.parametrize(
    "path", sorted(path for path in DATA.iterdir() if ".expected." not in path.name), ids=lambda path: path.name
)
def test_no_golden_file_is_taken_for_a_labeling_tools_that_is_not(path: Path) -> None:
    own = {name: format for name, format, *_ in CASES}
    mine = {"label-studio-pairwise", "label-studio-ranker", "argilla", "argilla-flat", "argilla-v1", "ground-truth"}
    recognizing = {
        name
        for name, one in importers().items()
        if name in mine and all(one.recognizes(Table.of(source), one.options()) for source in read_sources([path]))
    }
    assert recognizing == ({own[path.name]} if path.name in own else set())


# Label Studio --------------------------------------------------------------------------------------------------------
def ranked(value: Any, **fields: Any) -> dict[str, Any]:
    result = {"type": "ranker", "from_name": "rank", "to_name": "results", "value": value}
    items = [{"id": key, "body": key.upper()} for key in "abcd"]
    data = {"prompt": "Q", "items": items}
    return {"id": 1, "data": data, "annotations": [{"completed_by": 7, "result": [result]}], **fields}


def ranks(outcome: Outcome) -> dict[str, float]:
    assert isinstance(outcome, Taken), outcome
    (label,) = outcome.group.labels
    return dict(label.values())


@pytest.mark.parametrize(
    ("within", "expected"),
    [("order", {"c": 1, "a": 2, "b": 3, "d": 4}), ("ties", {"c": 1, "a": 1, "b": 3, "d": 3})],
)
def test_the_order_inside_of_a_bucket_is_what_the_option_says(within: str, expected: dict[str, int]) -> None:
    buckets = table_of(ranked({"ranker": {"bad": ["b", "d"], "good": ["c", "a"]}}))
    (outcome,) = read(buckets, "label-studio-ranker", {"buckets": "good, bad", "within": within})
    assert ranks(outcome) == expected
    (untold,) = read(buckets, "label-studio-ranker", {"buckets": "good,bad"})
    assert "bucket 'good' has 2 items; say what their order means: --option within=order" in reason(untold)


def test_buckets_of_one_item_each_need_no_meaning_of_their_order() -> None:
    (outcome,) = read(
        table_of(ranked({"ranker": {"bad": ["b"], "good": ["c"]}})), "label-studio-ranker", {"buckets": "good,bad"}
    )
    assert ranks(outcome) == {"c": 1, "b": 2}


def test_what_nobody_moved_is_ranked_only_where_it_is_named() -> None:
    table = table_of(ranked({"ranker": {"_": ["b", "d"], "good": ["c"], "bad": ["a"]}}))
    (left_out,) = read(table, "label-studio-ranker", {"buckets": "good,bad", "within": "ties"})
    assert ranks(left_out) == {"c": 1, "a": 2}
    (named,) = read(table, "label-studio-ranker", {"buckets": "good,_,bad", "within": "ties"})
    assert ranks(named) == {"c": 1, "b": 2, "d": 2, "a": 4}


def test_a_bucket_that_is_called_like_the_tag_is_a_bucket_where_it_is_named() -> None:
    table = table_of(ranked({"ranker": {"rank": ["b", "d"]}}))
    assert ranks(read(table, "label-studio-ranker")[0]) == {"b": 1, "d": 2}
    (tied,) = read(table, "label-studio-ranker", {"buckets": "rank", "within": "ties"})
    assert ranks(tied) == {"b": 1, "d": 1}


@pytest.mark.parametrize("names", ["a,,b", "a,a", ""])
def test_lists_of_names_are_checked(names: str) -> None:
    with pytest.raises(BadInputError, match=r"--option criteria=.*: expected different names with commas between"):
        parse_options(importers()["label-studio-ranker"], {"criteria": names}, {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"prompt": "Q"}, "data has no 'items'; found prompt. Name it: --column items=KEY"),
        ({"items": "abc"}, "data.items: found a JSON str; expected a list"),
        ({"items": [{"id": "a", "body": "A"}]}, "data.items: found 1 items; expected at least two"),
        ({"items": ["a", "b"]}, "data.items: found a JSON str; expected objects with an id and a text"),
        ({"items": [{"body": "A"}, {"body": "B"}]}, "an item has no 'id'; found body. Name it: --column id=KEY"),
        ({"items": [{"id": 1, "body": "A"}, {"id": "1", "body": "B"}]}, "data.items: '1' is the id of two items"),
        ("text", "data: found a JSON str; expected an object"),
    ],
)
def test_tasks_of_rankers_that_cannot_be_read(data: Any, message: str) -> None:
    (outcome,) = read(table_of(ranked({"ranker": ["a", "b"]}, data=data)), "label-studio-ranker")
    assert message in reason(outcome)


def test_what_is_nested_deeper_than_any_shape_is_withheld_from_quarantine() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    (outcome,) = read(table_of(ranked({"ranker": [["a"]]}, data={"items": deep})), "label-studio-ranker")
    assert isinstance(outcome, Rejected)
    assert outcome.row.raw is not None
    assert str(outcome.row.raw["data"]["items"]).count("[") < 6


# Argilla -------------------------------------------------------------------------------------------------------------
def argilla(fields: dict[str, Any] | None = None, **responses: Any) -> dict[str, Any]:
    fields = {"prompt": "Q", "response_1": "A", "response_2": "B"} if fields is None else fields
    given = {
        name: [{"value": value, "user_id": f"u{at}"} for at, value in enumerate(all)] for name, all in responses.items()
    }
    return {"id": "r", "fields": fields, "metadata": {}, "suggestions": {}, "responses": given}


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


# Ground Truth --------------------------------------------------------------------------------------------------------
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


# Prompts -------------------------------------------------------------------------------------------------------------
NO_PROMPT = [
    (
        "label-studio-pairwise",
        {
            "data": {"question": "Q", "answer1": "x", "answer2": "y", "id": 7},
            "annotations": [{"completed_by": 1, "result": [{"type": "pairwise", "value": {"selected": "left"}}]}],
        },
    ),
    (
        "label-studio-ranker",
        ranked(
            {"ranker": ["a", "b"]},
            data={"question": "Q", "items": [{"id": "a", "body": "x"}, {"id": "b", "body": "y"}]},
        ),
    ),
    ("argilla", argilla({"question": "Q", "response_1": "A", "response_2": "B"}, best=["response_1"])),
    (
        "ground-truth",
        {
            "question": "Q",
            "response_1": "A",
            "response_2": "B",
            "pref": 0,
            "pref-metadata": {"type": "groundtruth/x", "class-name": "response_1", "human-annotated": "yes"},
        },
    ),
]


@pytest.mark.parametrize(("format", "row"), NO_PROMPT, ids=[case[0] for case in NO_PROMPT])
def test_a_prompt_of_another_name_is_not_lost(format: str, row: dict[str, Any]) -> None:
    (untold,) = read(table_of(row), format)
    assert "has no 'prompt'; found question. Name the prompt: --column prompt=FIELD, or say that" in reason(untold)
    (named,) = read(table_of(row), format, {}, {"prompt": "question"})
    assert isinstance(named, Taken)
    assert [turn.content for turn in named.group.prompt] == ["Q"]
    (none,) = read(table_of(row), format, {}, {"prompt": ""})
    assert isinstance(none, Taken)
    assert none.group.prompt == ()
    (missing,) = read(table_of(row), format, {}, {"prompt": "task"})
    assert "has no 'task'; found question" in reason(missing)


# Through an ingest ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("label_studio_ranker.json", []),
        ("argilla.json", ["u1", "u3"]),
        ("argilla_flat.jsonl", ["u4"]),
        ("argilla_v1.jsonl", ["u4"]),
        ("ground_truth_custom.jsonl", ["private.us-east-1.w3"]),
    ],
)
def test_every_row_is_accounted_for_and_no_labeler_is_named(
    name: str, ids: list[str], tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    (options, columns) = next((case[2], case[3]) for case in CASES if case[0] == name)
    lenient = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"max_failed_share": 1.0})}
    )
    report = ingest([DATA / name], store, lenient, key=key, options=options, columns=columns)
    known = report.rows_taken + report.rows_quarantined + report.rows_duplicate + sum(report.skipped.values())
    expected = (DATA / name).with_suffix(".expected.jsonl").read_text(encoding="utf-8").strip().split("\n")
    assert report.rows_in == known == len(expected)
    assert report.rows_quarantined == sum("rejected" in json.loads(line) for line in expected)
    (path,) = (tmp_path / "store" / "quarantine").rglob("*.jsonl")
    text = path.read_text(encoding="utf-8")
    assert "anna@acme.org" not in text
    assert "I know who wrote this" not in text
    for who in ids:
        assert f'"{who}"' not in text
        assert pseudonym(key, who) in text
