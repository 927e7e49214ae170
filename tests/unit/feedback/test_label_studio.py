"""Label Studio's exports of comparisons: their shapes, who labeled, ties, what nobody judged, and blind tasks."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings, ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.comparisons import ANSWERS, keep_key, make_tasks
from rewardloop.feedback.importers.base import Outcome, Rejected, Skipped, Taken, choose, importers, parse_options
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.reading import Source
from rewardloop.feedback.store import FeedbackStore
from rewardloop.records import Choice, Ranking

FORMAT = "label-studio-pairwise"
DATA = {"prompt": "Why?", "answer1": "Because.", "answer2": "So."}
HOSTILE = "</Text><script>alert('x')</script> $prompt {{7*7}} ]}, \u2028 \U0001f600"


def pairwise(selected: Any) -> dict[str, Any]:
    value = {"selected": selected}
    names = {"from_name": "comparison", "to_name": "comparison"}
    return {"type": "pairwise", **names, "value": value, "id": "Sba4F4tuVh", "origin": "manual"}


def tie(value: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "tie", "to_name": "prompt", "value": {"choices": [value]}, "id": "x"}


def annotation(*results: dict[str, Any], by: Any = 2, **fields: Any) -> dict[str, Any]:
    made = {"id": 68045, "completed_by": by, "was_cancelled": False, "ground_truth": False, "lead_time": 12.51}
    return {**made, "created_at": "2023-04-17T21:54:20Z", "result": list(results), **fields}


def task(*annotations: Any, data: Any = DATA, **fields: Any) -> dict[str, Any]:
    return {"id": 401635, "data": data, "annotations": list(annotations), "drafts": [], "predictions": [], **fields}


def read(
    tasks: list[Any],
    options: dict[str, str] | None = None,
    columns: dict[str, str] | None = None,
    store: FeedbackStore | None = None,
) -> list[Outcome]:
    table = Table.of(Source("export.json", json.dumps(tasks), "0" * 64), store.storage if store else None)
    chosen = importers()[FORMAT]
    parsed = parse_options(chosen, options or {}, columns or {})
    return list(chosen.read(table, parsed, ValidationSettings()))


def taken(outcome: Outcome) -> Taken:
    assert isinstance(outcome, Taken), outcome
    return outcome


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def test_left_and_right_are_the_first_and_the_second_answer() -> None:
    left, right = read([task(annotation(pairwise("left")), annotation(pairwise("right"), by=3))])
    group = taken(left).group
    assert [(turn.role, turn.content) for turn in group.prompt] == [("user", "Why?")]
    assert [(one.response_id, one.content, one.model) for one in group.responses] == [
        ("a", "Because.", None),
        ("b", "So.", None),
    ]
    assert group.labels == (Choice(labeler="2", chosen="a", rejected="b"),)
    assert taken(right).group.labels == (Choice(labeler="3", chosen="b", rejected="a"),)
    assert group.labeled_at is not None
    assert group.labeled_at.isoformat() == "2023-04-17T21:54:20+00:00"
    assert (group.sampling, group.source) == ("random", None)
    assert taken(left).rows[0].place == "export.json:1"
    assert group.group_id == taken(right).group.group_id


@pytest.mark.parametrize(
    ("by", "labeler"),
    [(2, "2"), ("2", "2"), ({"id": 7, "email": "anna@acme.org", "first_name": "Anna"}, "7"), (None, None)],
)
def test_completed_by_is_an_id_or_an_object_with_one(by: Any, labeler: str | None) -> None:
    (outcome,) = read([task(annotation(pairwise("left"), by=by))])
    assert taken(outcome).group.labels[0].labeler == labeler
    assert "anna" not in str(taken(outcome).rows)


@pytest.mark.parametrize("by", [{"email": "anna@acme.org"}, [1], True, ""])
def test_a_labeler_without_an_id_is_rejected_and_not_quoted(by: Any) -> None:
    (outcome,) = read([task(annotation(pairwise("left"), by=by))])
    assert reason(outcome) == "annotation 1: completed_by: expected a number, a text, or an object with an id"
    assert "anna@acme.org" not in str(outcome)


def test_what_nobody_judged_is_skipped_with_its_reason() -> None:
    outcomes = read(
        [
            task(annotation(was_cancelled=True), annotation(pairwise("left"), was_cancelled=True), annotation()),
            task(drafts=[annotation(pairwise("left"))]),
        ]
    )
    assert all(isinstance(outcome, Skipped) for outcome in outcomes)
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, Skipped)] == [
        "skipped by their labeler",
        "skipped by their labeler",
        "without a result",
        "not annotated yet",
    ]


@pytest.mark.parametrize("result", [pairwise("equal"), tie("equal")])
def test_ties_are_what_the_option_says(result: dict[str, Any]) -> None:
    (outcome,) = read([task(annotation(result))], {"tie": "equal"})
    assert taken(outcome).group.labels == (Ranking(labeler="2", ranks={"a": 1, "b": 1}),)
    (untold,) = read([task(annotation(result))])
    assert "equal" in reason(untold)
    assert "name the value of ties: --option tie=VALUE" in reason(untold)
    (other,) = read([task(annotation(result))], {"tie": "same"})
    assert 'or "same" for ties' in reason(other)


def test_a_side_and_a_tie_contradict_each_other() -> None:
    (outcome,) = read([task(annotation(pairwise("left"), tie("equal")))], {"tie": "equal"})
    assert reason(outcome) == 'annotation 1: says both "left" and "equal"; expected one of them'


@pytest.mark.parametrize("value", ["left", "right", ""])
def test_a_side_is_no_value_of_ties(value: str) -> None:
    with pytest.raises(BadInputError, match=f"--option tie={value}: expected the value of ties"):
        parse_options(importers()[FORMAT], {"tie": value}, {})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (annotation(pairwise("none")), "selected: found \"none\"; expected 'left' or 'right', or name"),
        (annotation(pairwise(None)), "selected: found null"),
        (annotation(pairwise(["left"])), 'selected: found ["left"]'),
        (annotation({"type": "pairwise"}), "selected: found null"),
        (annotation({"type": "textarea", "value": {"text": ["hm"]}}), "has no result of type 'pairwise', only others"),
        (annotation(pairwise("left"), pairwise("right")), "has 2 results of type 'pairwise'; expected one"),
        (annotation(pairwise("left"), created_at="soon"), 'created_at: found "soon"; expected a time'),
        (annotation(result=None), "has no result of type 'pairwise'"),
        ("text", "found a JSON str; expected an object"),
        (None, "found nothing; expected an object"),
    ],
)
def test_annotations_that_cannot_be_read_are_rejected_one_by_one(changed: Any, message: str) -> None:
    bad, good = read([task(changed, annotation(pairwise("left")))])
    assert reason(bad).startswith(f"annotation 1: {message}")
    assert isinstance(good, Taken)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"data": {"prompt": "Why?", "answer1": "x"}},
            "data has no 'answer2'; found answer1, prompt. Name it: --column",
        ),
        ({"data": DATA | {"answer1": 7}}, "data.answer1: found a JSON int; expected a text"),
        ({"data": DATA | {"answer1": "So."}}, "both answers are the same text"),
        ({"data": DATA | {"prompt": {"x": 1}}}, "data.prompt: found a JSON dict; expected a text"),
        ({"data": DATA | {"prompt": [{"role": "user"}]}}, "data.prompt.0.content: Field required"),
        ({"data": None}, "data: found nothing; expected an object"),
        ({"annotations": {}}, "annotations: found a JSON dict; expected a list"),
        ({"annotations": None}, "annotations: found nothing; expected a list"),
    ],
)
def test_tasks_that_cannot_be_read_are_rejected(changed: dict[str, Any], message: str) -> None:
    first, second = read([task(annotation(pairwise("left"))) | changed, task(annotation(pairwise("left")))])
    assert message in reason(first)
    assert isinstance(second, Taken)


def test_data_keys_are_options() -> None:
    data = {"question": "Why?", "one": "Because.", "two": "So."}
    columns = {"prompt": "question", "answer1": "one", "answer2": "two"}
    options = {"criterion": "tone", "source": "desk", "sampling": "active", "default_segment": "chat"}
    (outcome,) = read([task(annotation(pairwise("right")), data=data)], options, columns)
    group = taken(outcome).group
    assert [one.content for one in (*group.prompt, *group.responses)] == ["Why?", "Because.", "So."]
    assert (group.labels[0].criterion, group.source, group.sampling, group.segment) == (
        "tone",
        "desk",
        "active",
        "chat",
    )
    (missing,) = read([task(annotation(pairwise("right")))], columns={"prompt": "question"})
    assert "has no 'question'; found prompt. Name the prompt: --column prompt=FIELD" in reason(missing)


def test_a_prompt_may_be_missing_or_messages() -> None:
    texts = {"answer1": "x", "answer2": "y"}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    none, turns = read(
        [
            task(annotation(pairwise("left")), data=texts),
            task(annotation(pairwise("left")), data=texts | {"prompt": messages}),
        ]
    )
    assert taken(none).group.prompt == ()
    assert [turn.role for turn in taken(turns).group.prompt] == ["system", "user"]


def test_hostile_texts_are_just_texts() -> None:
    data = {"prompt": HOSTILE, "answer1": f"{HOSTILE} 1", "answer2": f"{HOSTILE} 2", HOSTILE: HOSTILE}
    (outcome,) = read([task(annotation(pairwise("left")), data=data)])
    group = taken(outcome).group
    assert [one.content for one in group.responses] == [f"{HOSTILE} 1", f"{HOSTILE} 2"]
    assert group.prompt[0].content == HOSTILE


def test_auto_finds_it_by_its_results() -> None:
    def table(tasks: list[Any]) -> Table:
        return Table.of(Source("export.json", json.dumps(tasks), "0" * 64))

    export = table([task(), task(annotation(pairwise("left")))])
    choice = choose([export], "auto", {}, {})
    assert (choice.importer.name, choice.reason) == (FORMAT, "its tasks have results of type 'pairwise'")
    written = {"type": "textarea", "value": {"text": ["hm"]}}
    with pytest.raises(BadInputError, match="format not recognized; found a JSON list with the keys id, data, annot"):
        choose([table([task(annotation(written))])], "auto", {}, {})
    ranker = {"type": "ranker", "value": {"ranker": ["a", "b"]}}
    assert choose([table([task(annotation(ranker))])], "auto", {}, {}).importer.name == "label-studio-ranker"
    both = table([task(annotation(ranker, pairwise("left")))])
    with pytest.raises(BadInputError, match=r"may be any of: label-studio-pairwise .*; label-studio-ranker .*--format"):
        choose([both], "auto", {}, {})


def test_an_export_becomes_a_batch_and_a_later_one_adds_what_is_new(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    def export(name: str, *annotations: dict[str, Any]) -> Path:
        others = [
            task(annotation(pairwise("left"), by=9), data=DATA | {"answer1": f"{number}"}) for number in range(20)
        ]
        path = tmp_path / name
        path.write_text(json.dumps([task(*annotations), *others]))
        return path

    anna = {"id": 41, "email": "anna@acme.org"}
    one = annotation(pairwise("left"), by=anna)
    skipped = [annotation(was_cancelled=True), annotation(was_cancelled=True), annotation()]
    first = ingest([export("one.json", one, *skipped)], store, settings, key=key)
    assert (first.rows_in, first.rows_taken, first.rows_quarantined, first.rows_duplicate) == (24, 21, 0, 0)
    assert first.skipped == {"skipped by their labeler": 2, "without a result": 1}
    assert "0 duplicates, 2 skipped by their labeler, 1 without a result; 21 groups" in first.summary
    assert store.batches()[0].skipped == first.skipped
    again = ingest([tmp_path / "one.json"], store, settings, key=key)
    assert (again.digest, again.rows_duplicate, again.skipped) == (None, 21, first.skipped)
    # The same task again with one annotation more, and one that cannot be read.
    bad = annotation(pairwise("both"), by=anna)
    more = ingest([export("two.json", one, *skipped, annotation(pairwise("right")), bad)], store, settings, key=key)
    assert (more.rows_in, more.rows_taken, more.rows_quarantined, more.rows_duplicate) == (26, 1, 1, 21)
    (path,) = (tmp_path / "store" / "quarantine").rglob("*.jsonl")
    quarantined = json.loads(path.read_text())
    assert quarantined["place"] == "two.json:1"
    assert quarantined["reason"].startswith('annotation 6: selected: found "both"; expected')
    assert quarantined["row"]["annotation"]["result"][0]["value"] == {"selected": "both"}
    assert quarantined["row"]["annotation"]["completed_by"] == pseudonym(key, "41")
    assert "anna@acme.org" not in path.read_text()


# Blind comparisons ---------------------------------------------------------------------------------------------------
def blind(store: FeedbackStore, count: int = 4) -> tuple[list[dict[str, Any]], Any]:
    rows = [
        {"prompt": [{"role": "user", "content": f"q{i}"}], "reference": f"plain {i}", "policy": f"aligned {i}"}
        for i in range(count)
    ]
    tasks, made = make_tasks(
        pl.DataFrame(rows, schema=ANSWERS),
        count=count,
        seed=0,
        policy="9f" * 32,
        run_id="20261121T100000-c0ffee00-1a2b",
    )
    keep_key(store.storage, made)
    return tasks, made


def test_a_comparison_is_unblinded_by_its_key(store: FeedbackStore) -> None:
    tasks, made = blind(store)
    outcomes = read([task(annotation(pairwise("left")), data=one["data"]) for one in tasks], store=store)
    for outcome in outcomes:
        group = taken(outcome).group
        models = {one.content.split()[0]: one.model for one in group.responses}
        assert models == {"aligned": f"policy:{made.policy}", "plain": f"reference:{made.policy}"}
        assert (group.sampling, group.source) == ("comparison", "run:20261121T100000-c0ffee00-1a2b")
        chosen = group.labels[0].values()
        assert chosen == {"a": 1.0, "b": 0.0}
        assert made.tasks[group.group_id] == ("left" if group.responses[0].content.startswith("aligned") else "right")


def test_auto_finds_a_comparison_whose_first_labels_are_all_ties(store: FeedbackStore) -> None:
    tasks = [task(annotation(tie("tie")), data=one["data"]) for one in blind(store)[0]]
    choice = choose([Table.of(Source("export.json", json.dumps(tasks), "0" * 64))], "auto", {}, {})
    assert (choice.importer.name, choice.reason) == (FORMAT, "its tasks are those of rewardloop export-tasks")


def test_the_exported_labeling_config_has_its_own_word_for_ties(store: FeedbackStore) -> None:
    tasks, _ = blind(store)
    (outcome,) = read([task(annotation(tie("tie")), data=tasks[0]["data"])], store=store)
    assert taken(outcome).group.labels[0].kind == "ranking"


def test_a_comparison_of_another_store_stops_the_ingest(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    other = FeedbackStore.open(str(tmp_path / "other"))
    tasks, made = blind(other)
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(annotation(pairwise("left")), data=one["data"]) for one in tasks]))
    message = f"comparison {made.id[:12]}: {store.storage.url} has no comparisons/{made.id}.json; ingest into the store"
    with pytest.raises(BadInputError, match=message):
        ingest([path], store, settings, key=key)
    assert not (tmp_path / "store").exists()
    assert ingest([path], other, settings, key=key).rows_taken == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer1": "other words"}, "are not those that were exported"),
        ({"messages": [{"role": "user", "content": "another"}]}, "are not those that were exported"),
        ({"messages": None}, "data.messages: Input should be a valid tuple"),
        ({"task": "0" * 16}, "task 0000000000000000 is not one of comparison"),
    ],
)
def test_a_changed_task_of_a_comparison_is_rejected(
    store: FeedbackStore, changes: dict[str, Any], message: str
) -> None:
    tasks, _ = blind(store)
    (outcome,) = read([task(annotation(pairwise("left")), data=tasks[0]["data"] | changes)], store=store)
    assert message in reason(outcome)


def test_answers_that_changed_places_are_rejected(store: FeedbackStore) -> None:
    data = blind(store)[0][0]["data"]
    turned = data | {"answer1": data["answer2"], "answer2": data["answer1"]}
    (outcome,) = read([task(annotation(pairwise("left")), data=turned)], store=store)
    assert "are not those that were exported" in reason(outcome)


def test_without_a_store_a_comparison_cannot_be_read(store: FeedbackStore) -> None:
    (outcome,) = read([task(annotation(pairwise("left")), data=blind(store)[0][0]["data"])])
    assert "whose key is in a store" in reason(outcome)
