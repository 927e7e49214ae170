"""``rewardloop export-tasks`` for new responses: what labelers get, what they cannot see, and what comes back."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardloop.cli.export_tasks import export_tasks
from rewardloop.cli.ingest import ingest
from rewardloop.config import KNOWN_ANSWER, Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import importers
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.task_keys import load_task_key
from rewardloop.labeling.preference_files import group_of
from rewardloop.records import FeedbackGroup
from rewardloop.storage import Storage

GUIDELINES = 'Prefer <true> answers & "kind" ones;\npay $answer1 no heed.'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REWARDLOOP_LABELER_KEY", "a key of the tests")
    path = tmp_path / "rewardloop.yaml"
    content = {
        "organization": "acme",
        "home": str(tmp_path / "home"),
        "store": {"url": str(tmp_path / "store")},
        "model": {"base": "random:tiny"},
        "validation": {"min_groups_per_batch": 1, "max_duplicate_share": 1.0},
        "labeling": {
            "guidelines": GUIDELINES,
            "criteria": ["coherence", "factual correctness"],
            "control_share": 0.25,
            "min_shared_items": 3,
        },
    }
    path.write_text(json.dumps(content))
    return path


def responses(tmp_path: Path, count: int = 12, k: int = 3) -> Path:
    path = tmp_path / "responses.jsonl"
    lines = [
        {
            "prompt": f"question {n}",
            "responses": [
                {"response_id": f"r{i}", "content": f"answer {i} to {n}", "model": f"secret-{i}"} for i in range(k)
            ],
            "segment": "chat",
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def controls(tmp_path: Path, count: int = 4) -> Path:
    path = tmp_path / "controls.jsonl"
    lines = [
        {
            "group_id": f"g{n}",
            "prompt": [{"role": "user", "content": f"known {n}"}],
            "responses": [{"response_id": "x", "content": f"good {n}"}, {"response_id": "y", "content": f"bad {n}"}],
            "labels": [{"kind": "choice", "chosen": "x", "rejected": "y"}],
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def groups(tmp_path: Path) -> list[FeedbackGroup]:
    store = FeedbackStore.open(str(tmp_path / "store"))
    (batch,) = store.batches()
    return [group_of(row) for row in store.read_batch(batch.digest).iter_rows(named=True)]


def label_pairs(tasks: list[dict[str, Any]], who: int) -> list[dict[str, Any]]:
    """Prefers lower numbers of answers; at even questions says how coherent the left one is."""
    done = []
    for task in tasks:
        left, right = task["data"]["answer1"], task["data"]["answer2"]
        result: list[dict[str, Any]] = [
            {
                "type": "pairwise",
                "from_name": "comparison",
                "to_name": "comparison",
                "value": {"selected": "left" if left > right else "right"},
            },
            {"type": "rating", "from_name": "coherence_answer1", "to_name": "answer1", "value": {"rating": 4}},
        ]
        done.append({**task, "annotations": [{"completed_by": who, "result": result}]})
    return done


def test_pairs_are_given_out_blind_and_come_back_with_their_models_and_controls(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    export_tasks(
        "pairwise", None, output, config, None, responses=responses(tmp_path), labelers=2, annotators="anna,ben,cleo",
        control=controls(tmp_path),
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "36 pairs, " in said
    assert "every two annotators share 12 items or more" in said
    assert "control tasks are 14% of all, labeling.control_share asks for 25%: name more control items" in said
    files = sorted(path.name for path in output.iterdir())
    assert files == [
        "assignments.json",
        "labeling-config.xml",
        "tasks-anna.json",
        "tasks-ben.json",
        "tasks-cleo.json",
    ]
    given = {name: read(output / f"tasks-{name}.json") for name in ("anna", "ben", "cleo")}
    text = "".join((output / name).read_text() for name in files)
    assert "secret" not in text
    assert "control" not in text
    # 24 pairs each, and a quarter of all tasks is 8 controls; there are 4.
    assert [len(tasks) for tasks in given.values()] == [28, 28, 28]
    assert {len(who) for item, who in read(output / "assignments.json")["items"].items()} == {2, 3}
    # A pair's second labeler sees it the other way round.
    sides: dict[frozenset[str], set[str]] = {}
    for tasks in given.values():
        for task in tasks:
            if "answer" in task["data"]["answer1"]:
                both = frozenset((task["data"]["answer1"], task["data"]["answer2"]))
                sides.setdefault(both, set()).add(task["data"]["answer1"])
    assert {len(left) for left in sides.values()} == {2}

    key = load_task_key(Storage.open(str(tmp_path / "store")), given["anna"][0]["data"]["labeling"])
    assert {task["data"]["task"] for tasks in given.values() for task in tasks} == set(key.tasks)
    exports = []
    for who, (name, tasks) in enumerate(given.items()):
        exports.append(tmp_path / f"export-{name}.json")
        exports[-1].write_text(json.dumps(label_pairs(tasks, who)))
    ingest(exports, config)
    assert "format label-studio-tasks" in capsys.readouterr().out
    found = groups(tmp_path)
    assert len(found) == 3 * 28
    planted = [group for group in found if group.sampling == "control"]
    assert len(planted) == 3 * 4
    for group in planted:
        (known,) = [label for label in group.labels if label.criterion == KNOWN_ANSWER]
        assert (known.labeler, known.labeler_kind) == (None, "signal")
        ranked = {
            response.content.partition(" ")[0]: known.values()[response.response_id] for response in group.responses
        }
        assert ranked == {"good": 1, "bad": 2}
    for group in found:
        if group.sampling == "random":
            assert group.segment == "chat"
            for response in group.responses:  # whatever side it stood on, the id and the model are its own
                assert response.response_id == f"r{response.content.split()[1]}"
                assert response.model == f"secret-{response.content.split()[1]}"
            (overall,) = [label for label in group.labels if label.criterion == "overall"]
            texts = {response.response_id: response.content for response in group.responses}
            assert overall.kind == "choice"
            assert texts[overall.chosen] > texts[overall.rejected]
            (coherence,) = [label for label in group.labels if label.criterion == "coherence"]
            assert (list(coherence.values()), coherence.scale) == ([group.responses[0].response_id], (1.0, 5.0))
    labelers = {label.labeler for group in found for label in group.labels if label.labeler}
    assert len(labelers) == 3


def test_rankings_come_back_and_a_changed_task_does_not(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    export_tasks("ranker", 5, output, config, None, responses=responses(tmp_path), labelers=2)
    said = capsys.readouterr().out
    assert "labelers of each: 2; set that in the project's quality settings" in said
    tasks = read(output / "tasks.json")
    assert len(tasks) == 5
    for task in tasks:
        items = task["data"]["items"]
        assert [item["id"] for item in items] == ["answer_0", "answer_1", "answer_2"]
        order = [item["id"] for item in sorted(items, key=lambda item: str(item["body"]))]
        result = [
            {"type": "ranker", "from_name": "rank", "to_name": "items", "value": {"ranker": {"rank": order}}},
            {"type": "rating", "from_name": "factual_correctness_answer_2", "value": {"rating": 5}},
        ]
        task["annotations"] = [{"completed_by": {"id": 7, "email": "a@b.c"}, "result": result}]
    tasks[0]["data"]["items"][0]["body"] += "!"
    tasks[1]["annotations"][0]["result"][0]["value"]["ranker"]["rank"].pop()
    tasks[2]["annotations"].append({"completed_by": 8, "was_cancelled": True, "result": []})
    tasks[3]["annotations"][0]["result"][1]["value"]["rating"] = 6
    done = tmp_path / "export.json"
    done.write_text(json.dumps(tasks))
    ingest([done], config, overrides=["validation.max_failed_share=0.9"])
    said = capsys.readouterr().out
    assert "are not those that were exported" in said
    assert "expected each of answer_0, answer_1, answer_2 once" in said
    assert "factual_correctness_answer_2: found 6; expected 1 to 5 stars" in said
    found = groups(tmp_path)
    assert len(found) == 2
    for group in found:
        overall, correctness = group.labels
        assert {key: int(rank) for key, rank in overall.values().items()} == {"r0": 1, "r1": 2, "r2": 3}
        assert correctness.values() == {group.responses[2].response_id: 5.0}


def test_a_tie_is_a_tie_and_two_verdicts_are_none(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    comparison = ["labeling.criteria_as=comparison", "validation.max_failed_share=0.9"]
    export_tasks("pairwise", None, output, config, comparison, responses=responses(tmp_path, 3, 2), labelers=1)
    tasks = read(output / "tasks.json")
    tie = {"type": "choices", "from_name": "tie", "value": {"choices": ["tie"]}}
    side = {"type": "pairwise", "from_name": "comparison", "value": {"selected": "left"}}
    coherence = {"type": "choices", "from_name": "coherence", "value": {"choices": ["tie"]}}
    for task, result in zip(tasks, ([tie], [tie, side], [side, coherence]), strict=True):
        task["annotations"] = [{"completed_by": 1, "result": result}]
    done = tmp_path / "export.json"
    done.write_text(json.dumps(tasks))
    ingest([done], config, overrides=comparison)
    assert """says both "left" and 'tie'""" in capsys.readouterr().out
    by_labels = {len(group.labels): group for group in groups(tmp_path)}
    assert set(by_labels[1].labels[0].values().values()) == {1.0}
    assert by_labels[2].labels[0].kind == "choice"
    assert by_labels[2].labels[1].kind == "ranking"


def test_the_configuration_is_xml_and_says_what_was_written(tmp_path: Path, config: Path) -> None:
    for kind in ("pairwise", "ranker"):
        export_tasks(kind, None, tmp_path / kind, config, None, responses=responses(tmp_path), labelers=1)
        root = ElementTree.parse(tmp_path / kind / "labeling-config.xml").getroot()
        headers = [str(tag.get("value")).replace("\u2060", "") for tag in root.iter("Header")]
        assert headers[:2] == GUIDELINES.splitlines()
        # What looks like the name of a field is none: labelers read the guidelines, not an answer.
        assert not any("$answer1" in str(tag.get("value")) for tag in root.iter("Header"))
        names = [str(tag.get("name")) for tag in root.iter() if tag.get("name")]
        assert len(set(names)) == len(names)
        known = {*names, "answer1", "answer2"}
        for tag in root.iter():
            for target in str(tag.get("toName", "prompt")).split(","):
                assert target in known
        stars = list(root.iter("Rating"))
        assert len(stars) == {"pairwise": 4, "ranker": 2}[kind]


def test_the_same_command_writes_the_same_and_other_files_stay(tmp_path: Path, config: Path) -> None:
    asked: dict[str, Any] = {"responses": responses(tmp_path), "annotators": "anna,ben", "control": controls(tmp_path)}
    export_tasks("pairwise", 9, tmp_path / "out", config, None, **asked)
    export_tasks("pairwise", 9, tmp_path / "out", config, None, **asked)
    with pytest.raises(BadInputError, match="is there with other content; name a new folder"):
        export_tasks("pairwise", 9, tmp_path / "out", config, None, seed=1, **asked)
    assert len(list((tmp_path / "store" / "labeling").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--responses: is needed by --kind pairwise"),
        ({"run": "x"}, "--run: belongs to --kind policy-comparison"),
        ({"annotators": "anna,Anna"}, "a name comes twice"),
        ({"annotators": "../anna"}, r"--annotators: found '../anna'; expected letters"),
        ({"annotators": "anna,ben", "labelers": 3}, "--labelers 3: only 2 annotators are named"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, config: Path, options: dict[str, Any], words: str) -> None:
    given = options if not options or "run" in options else {"responses": responses(tmp_path), **options}
    with pytest.raises(BadInputError, match=words):
        export_tasks("pairwise", None, tmp_path / "out", config, None, **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", r"bad.jsonl:1: is not JSON"),
        ('{"prompt": "q\\ud83d", "responses": ["a", "b"]}', r"bad.jsonl:1: holds half of a surrogate pair"),
        ('{"prompt": "q", "responses": ["a", "b \\udc00"]}', r"bad.jsonl:1: holds half of a surrogate pair"),
        ('{"prompt": "q"}', r"bad.jsonl:1: responses: Field required"),
        ('{"prompt": "q", "responses": ["a", "a "]}', "fewer than two different responses: 1"),
        ('{"prompt": "q", "responses": [{"content": "a", "response_id": "x"}, {"content": "b", "response_id": "x"}]}',
         "are not unique"),
        ('{"prompt": "q", "responses": ["a", "b"], "sampling": "control"}', "give control items with --control"),
    ],
)  # fmt: skip
def test_responses_that_cannot_be_read_are_named(tmp_path: Path, config: Path, line: str, words: str) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(line + "\n")
    with pytest.raises(BadInputError, match=words):
        export_tasks("ranker", None, tmp_path / "out", config, None, responses=bad)


def test_controls_hold_whole_characters(tmp_path: Path, config: Path) -> None:
    path = controls(tmp_path, 1)
    record = json.loads(path.read_text())
    record["responses"][0]["content"] += "\ud83d"
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(BadInputError, match=r"controls.jsonl:1: holds half of a surrogate pair"):
        export_tasks("pairwise", None, tmp_path / "out", config, None, responses=responses(tmp_path), control=path)


def test_controls_must_say_what_is_right(tmp_path: Path, config: Path) -> None:
    path = controls(tmp_path, 1)
    path.write_text(
        path.read_text().replace(
            '"kind": "choice", "chosen": "x", "rejected": "y"', '"kind": "ranking", "ranks": {"x": 1, "y": 1}'
        )
    )
    with pytest.raises(BadInputError, match=r"controls.jsonl:1: the label does not say which of all 2 answers"):
        export_tasks("pairwise", None, tmp_path / "out", config, None, responses=responses(tmp_path), control=path)


def test_a_criterion_cannot_take_a_tags_name(tmp_path: Path, config: Path) -> None:
    with pytest.raises(BadInputError, match=r"labeling.criteria: 'tie' is a part of the task"):
        export_tasks(
            "pairwise", None, tmp_path / "out", config, ["labeling.criteria=[tie]"], responses=responses(tmp_path)
        )
    with pytest.raises(BadInputError, match=r"labeling.criteria_as: comparison asks which of two"):
        export_tasks(
            "ranker", None, tmp_path / "out", config, ["labeling.criteria_as=comparison"], responses=responses(tmp_path)
        )


def test_other_readers_of_label_studios_exports_read_the_tasks_too_but_blind(tmp_path: Path, config: Path) -> None:
    output = tmp_path / "out"
    export_tasks("pairwise", None, output, config, None, responses=responses(tmp_path, 3, 2), labelers=1)
    done = tmp_path / "export.json"
    done.write_text(json.dumps(label_pairs(read(output / "tasks.json"), 1)))
    ingest([done], config, format="label-studio-pairwise")
    found = groups(tmp_path)
    assert len(found) == 3
    for group in found:
        texts = {response.response_id: response.content for response in group.responses}
        assert texts[group.labels[0].chosen].startswith("answer 1")
        assert {response.model for response in group.responses} == {None}


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["left", "tie", "answer_0", "rank", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rank", "ranker"]), inner),
    max_leaves=4,
)


@pytest.mark.parametrize("kind", ["pairwise", "ranker"])
def test_whatever_stands_in_an_annotation_is_taken_or_quarantined(tmp_path: Path, config: Path, kind: Any) -> None:
    output = tmp_path / "out"
    export_tasks(kind, 1, output, config, None, responses=responses(tmp_path, 3, 2), labelers=1)
    (task,) = read(output / "tasks.json")
    chosen, store = importers()["label-studio-tasks"], Storage.open(str(tmp_path / "store"))
    limits = Settings.model_validate({"organization": "acme", "model": {"base": "random:tiny"}}).validation
    done = tmp_path / "export.json"

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def junk(data: st.DataObject) -> None:
        names = st.sampled_from(["comparison", "rank", "tie", "coherence", "coherence_answer1", "coherence_answer_0"])
        kinds = st.sampled_from(["pairwise", "ranker", "rating", "choices"])
        fields = st.sampled_from(["selected", "choices", "rating", "ranker"])
        result = data.draw(
            st.lists(
                st.fixed_dictionaries(
                    {"type": kinds | JUNK, "from_name": names | JUNK, "value": st.dictionaries(fields, JUNK) | JUNK}
                ),
                max_size=3,
            )
        )
        done.write_text(json.dumps([{**task, "annotations": [{"completed_by": data.draw(JUNK), "result": result}]}]))
        (source,) = read_sources([done])
        found = list(chosen.read(Table.of(source, store), chosen.options(), limits))
        assert len(found) == 1

    junk()
