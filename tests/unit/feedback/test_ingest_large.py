"""Large files of canonical records: the same rows, reasons, counts and digest as row by row."""

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings, ValidationSettings
from rewardloop.feedback import ingest_large, pieces
from rewardloop.feedback.importers.base import Taken
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.plain_records import plain_record
from rewardloop.feedback.store import FeedbackStore
from rewardloop.records import FeedbackGroup

ODD = [
    "",
    "   ",
    "[1]",
    "{bad",
    '{"group_id":"no responses"}',
    '{"group_id":"outside","responses":[{"response_id":"a","content":"x"}],'
    '"labels":[{"kind":"rating","scores":{"a":9},"scale":[1,5],"labeler":"ann"}]}',
    '{"group_id":"half","responses":[{"response_id":"a","content":"\\ud800"}],'
    '"labels":[{"kind":"acceptable","values":{"a":true}}]}',
    '{"group_id":"twice","group_id":"two","responses":[{"response_id":"a","content":"x"}],'
    '"labels":[{"kind":"acceptable","values":{"a":true}}]}',
    '{"group_id":"dated","labeled_at":"2026-01-31T12:00:00Z","responses":[{"response_id":"a","content":"x"}],'
    '"labels":[{"kind":"acceptable","values":{"a":true},"labeler":"joe"}]}',
    '{"group_id":"full","responses":[{"response_id":"a","content":"x2","model":null},'
    '{"response_id":"b","content":"ü","model":"m"}],"labels":[{"kind":"rating","scores":{"a":4,"b":2.5},"scale":[1,5],'
    '"labeler":null},{"kind":"choice","chosen":"b","rejected":"a","criterion":"tone","labeler_kind":"model"}],'
    '"segment":"s","document_id":"q","source":"é","sampling":"active"}',
    '{"group_id":"blank","responses":[{"response_id":"a","content":" "}],'
    '"labels":[{"kind":"acceptable","values":{"a":true}}]}',
    '{"group_id":"long","responses":[{"response_id":"a","content":"LONG"}],"labels":[{"kind":"acceptable",'
    '"values":{"a":true}}]}'.replace("LONG", "x" * 20_001),
    '{"group_id":"text rank","responses":[{"response_id":"a","content":"z"}],'
    '"labels":[{"kind":"ranking","ranks":{"a":"1"}}]}',
    '{"group_id":"true rank","responses":[{"response_id":"a","content":"y"}],'
    '"labels":[{"kind":"ranking","ranks":{"a":true}}]}',
    '{"group_id":"stranger","responses":[{"response_id":"a","content":"w"}],"labels":[{"kind":"ranking","ranks":{"z":1}}]}',
    '{"group_id":"nan","responses":[{"response_id":"a","content":"v"}],"labels":[{"kind":"rating","scores":{"a":NaN}}]}',
    '{"group_id":"huge","responses":[{"response_id":"a","content":"u"}],"labels":[{"kind":"rating","scores":{"a":1e999}}]}',
    '{"group_id":"extra","more":1,"responses":[{"response_id":"a","content":"t"}],'
    '"labels":[{"kind":"rating","scores":{"a":1}}]}',
    '{"group_id":"g3","prompt":[{"role":"user","content":"not question 3"}],"responses":['
    '{"response_id":"a","content":"x"},{"response_id":"b","content":"y"}],'
    '"labels":[{"kind":"choice","chosen":"a","rejected":"b","labeler":"w"}]}',
]


def good(number: int, who: str = "w") -> str:
    return json.dumps(
        {
            "group_id": f"g{number}",
            "prompt": [{"role": "user", "content": f"question {number}"}],
            "responses": [{"response_id": key, "content": f"{key} {number}"} for key in "ab"],
            "labels": [{"kind": "ranking", "ranks": {"a": 1, "b": 2}, "labeler": f"{who}{number % 3}"}],
        }
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    first = [good(number) for number in range(30)]
    # Ids that come again: the same record, and another labeler's.
    path.write_text("\n".join([*first[:20], *ODD[:12], first[5], good(6, "v"), *first[20:], *ODD[12:]]))
    return path


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_large, "LARGE", 0)
    monkeypatch.setattr(pieces, "PIECE", 1_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})


def taken(tmp_path: Path, name: str, file: Path, settings: Settings, key: bytes) -> tuple[Any, ...]:
    store = FeedbackStore.open(str(tmp_path / name))
    lenient = settings.model_copy(update={"validation": ValidationSettings(max_failed_share=0.9)})
    report = ingest([file], store, lenient, key=key)
    assert report.digest is not None
    quarantine = (tmp_path / name / "quarantine" / report.digest / "rows.jsonl").read_text()
    manifest = store.batch(report.digest).model_dump(exclude={"ingested_at"})
    return report, quarantine, store.read_batch(report.digest).sort("record"), manifest


def test_a_large_file_gives_what_row_by_row_gives(
    tmp_path: Path, file: Path, settings: Settings, key: bytes, request: pytest.FixtureRequest
) -> None:
    small = taken(tmp_path, "small", file, settings, key)
    request.getfixturevalue("small_pieces")
    large = taken(tmp_path, "large", file, settings, key)
    report: IngestReport = small[0]
    assert report.rows_quarantined > 10
    assert report.rows_duplicate == 1
    assert large[0] == small[0]
    assert large[1] == small[1]
    assert large[2].equals(small[2])
    assert large[3] == small[3]


@pytest.mark.usefixtures("small_pieces")
def test_a_large_file_twice_adds_nothing(tmp_path: Path, settings: Settings, key: bytes, store: FeedbackStore) -> None:
    first, second = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    first.write_text("\n".join(good(number) for number in range(30)))
    second.write_text("\n".join(good(number) for number in range(20, 40)) + "\n")
    assert ingest([first], store, settings, key=key).rows_taken == 30
    more = ingest([second], store, settings, key=key)
    assert (more.rows_taken, more.rows_duplicate) == (10, 10)
    assert ingest([first, second], store, settings, key=key).digest is None


def test_several_processes_keep_the_order(
    tmp_path: Path, settings: Settings, key: bytes, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_large, "LARGE", 0)
    monkeypatch.setattr(pieces, "PIECE", 4_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(good(number) for number in range(40)))
    digest = ingest([file], store, settings, key=key).digest
    assert digest is not None
    assert store.read_batch(digest)["group_id"].to_list() == [f"g{number}" for number in range(40)]


@pytest.mark.parametrize("line", [line for line in ODD if line.startswith('{"group_id"')])
def test_what_is_called_plain_is_what_the_record_says(line: str) -> None:
    limits = ValidationSettings()
    tree = plain_record(json.loads(line), limits, lambda name: name)
    if tree is not None:
        group = FeedbackGroup.model_validate(json.loads(line))
        assert tree == group.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_usual_records_are_called_plain() -> None:
    for line in (good(1), ODD[9]):
        assert plain_record(json.loads(line), ValidationSettings(), lambda name: name) is not None


def test_pieces_hold_every_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 10)
    path = tmp_path / "lines"
    path.write_text("a\n\nbb\u2028b\n" + "c" * 50 + "\nd")
    lines = [line for piece in pieces.cut(0, path, "lines", tmp_path) for line in pieces.lines_of(piece)]
    assert [line for line in lines if line[1]] == [(1, "a"), (3, "bb\u2028b"), (4, "c" * 50), (5, "d")]


def test_the_importer_is_asked_with_the_right_place(settings: Settings) -> None:
    choice = pieces.importers()["canonical"]
    work = pieces.Work("canonical", choice.options(), settings.validation, b"k" * 16, 1 << 20)
    (outcome,) = pieces.asked("labels.jsonl:77", ODD[8], work)
    assert isinstance(outcome, Taken)
    assert outcome.rows[0].place == "labels.jsonl:77"
    assert pl.Series([outcome.group.group_id])[0] == "dated"
