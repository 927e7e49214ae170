"""Importers of labeling tools' exports against golden files written by hand, and what each leaves open."""

from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import Settings
from rewardloop.feedback.importers.base import Taken, choose, importers
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import FeedbackStore
from tests.exports import DATA, argilla, expected, ranked, read, reason, shown, table, table_of

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


@pytest.mark.parametrize(("name", "format", "options", "columns"), CASES, ids=[case[0] for case in CASES])
def test_golden_file(name: str, format: str, options: dict[str, str], columns: dict[str, str]) -> None:
    assert [shown(outcome) for outcome in read(table(name), format, options, columns)] == expected(name)


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
    wanted = expected(name)
    assert report.rows_in == known == len(wanted)
    assert report.rows_quarantined == sum("rejected" in line for line in wanted)
    (path,) = (tmp_path / "store" / "quarantine").rglob("*.jsonl")
    text = path.read_text(encoding="utf-8")
    assert "anna@acme.org" not in text
    assert "I know who wrote this" not in text
    for who in ids:
        assert f'"{who}"' not in text
        assert pseudonym(key, who) in text
