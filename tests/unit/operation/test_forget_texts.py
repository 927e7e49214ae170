"""A forgotten text goes from wherever it stands: a prompt from what quotes it, an answer from a transcript's row.

Nor does a labeler hide behind the pseudonym under which an export has her.
"""

import json
from pathlib import Path

import polars as pl
import pytest

from rewardloop.evidence import RunRecord
from rewardloop.feedback import ingest_large
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.rewriting import group_of
from rewardloop.operation.forget import Subject
from rewardloop.records import prompt_key, text_digest
from rewardloop.tables import canonical_json
from rewardloop.tracking.connection import connect
from tests.forgetting import HERS, KEY, TEXT, WHO, Place, fill, held, row, settings_of, write_rows

QUESTION = "What did number eight say to number nine about all of this?"
INSTRUCTION = "You are the helpful assistant of a firm that sells bicycles."


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return fill(tmp_path, settings_of(tmp_path), connect(None, tmp_path / "tracking", 5))


def _asked(number: int, turns: list[tuple[str, str]]) -> dict[str, object]:
    return row(number) | {"prompt": [{"role": role, "content": content} for role, content in turns]}


def _labelers(place: Place) -> set[str]:
    frames = [place.store.read_batch(batch.digest) for batch in place.store.batches()]
    return {label["labeler"] for frame in frames for labels in frame["labels"] for label in labels}


def _write_run(place: Place, evidence: object) -> Path:
    """The folder of a run of all that was ingested."""
    corpus = place.store.current_corpus()
    place.store.write_corpus(corpus)
    folder = Path(place.settings.home) / "runs" / "run-1"
    record = RunRecord(
        run_id="run-1", organization="o", corpus_digest=corpus.digest, config_digest="f1" * 32,
        started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    (folder / "evidence").mkdir(parents=True)
    (folder / "run.json").write_text(record.model_dump_json(), encoding="utf-8")
    (folder / "evidence" / "some.json").write_text(json.dumps(evidence), encoding="utf-8")
    return folder


@pytest.mark.parametrize("turns", [[("user", QUESTION)], [("system", INSTRUCTION), ("user", QUESTION)]])
def test_a_whole_prompt_goes_from_what_quotes_it(place: Place, turns: list[tuple[str, str]]) -> None:
    other = [("system", INSTRUCTION), ("user", "And what else?")]
    bad = _asked(52, turns) | {"labels": "none"}
    place.ingest("asked.jsonl", [_asked(50, turns), _asked(51, other), *(row(n) for n in range(53, 57)), bad])
    run = _write_run(place, {"prompt": QUESTION, "cut": QUESTION[:30] + "…", "instruction": INSTRUCTION})
    assert held(place.folder / "store" / "quarantine", QUESTION)
    (report,) = place.forget(Subject(texts=frozenset({prompt_key(turns)})))
    assert (report.groups, report.quarantined) == (1, 1)
    assert held(place.folder / "store", QUESTION) == []
    assert json.loads((run / "evidence" / "some.json").read_text()) == {
        "prompt": "[FORGOTTEN]", "cut": "[FORGOTTEN]", "instruction": INSTRUCTION,
    }  # fmt: skip
    # The instruction is everybody's: what else was asked under it stays.
    assert held(place.folder / "store" / "batches", INSTRUCTION)


def _transcript(prompt: str, answer: str) -> str:
    return f"\n\nHuman: {prompt}\n\nAssistant: {answer}"


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("what", ["answer", "prompt"])
def test_a_transcript_in_quarantine_loses_the_text_inside(place: Place, what: str, stored: bool) -> None:
    """Where no batch holds it, too: only its hash is known then."""
    if stored:
        place.ingest("asked.jsonl", [_asked(50, [("user", QUESTION)])])
    text = QUESTION if what == "prompt" else TEXT if stored else "An answer that is in no batch of the store at all."
    rows = [
        {"chosen": _transcript(f"Question {n}?", f"Answer {n}."), "rejected": _transcript(f"Question {n}?", "No.")}
        for n in range(5)
    ]
    bad = {"chosen": _transcript(QUESTION, text if what == "answer" else "Yes.")}
    path = write_rows(place.folder / "hh.jsonl", [*rows, bad])
    report = ingest([path], place.store, place.settings, key=KEY)
    assert report.rows_quarantined == 1
    assert held(place.folder / "store" / "quarantine", text)
    digest = text_digest(text) if what == "answer" else prompt_key([("user", text)])
    (forgotten,) = place.forget(Subject(texts=frozenset({digest})))
    assert forgotten.quarantined == 1
    assert held(place.folder / "store", text) == []
    # Nor does the file bring it back into quarantine.
    rows.append({"chosen": _transcript("Something new?", "Yes."), "rejected": _transcript("Something new?", "No.")})
    ingest([write_rows(path, [*rows, bad])], place.store, place.settings, key=KEY)
    assert held(place.folder / "store", text) == []


def test_a_cell_of_json_in_quarantine_loses_the_text_inside(place: Place) -> None:
    text = 'It was "so" and\nso.'
    bad = row(60) | {"responses": json.dumps([{"response_id": "a", "content": text}])}
    place.ingest("cells.jsonl", [*(row(n) for n in range(61, 65)), bad])
    (report,) = place.forget(Subject(texts=frozenset({text_digest(text)})))
    assert report.quarantined == 1


@pytest.mark.parametrize("large", [False, True])
def test_what_came_back_from_an_export_is_known_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(ingest_large, "LARGE", 1)
    stored = pl.concat([place.store.read_batch(batch.digest) for batch in place.store.batches()])
    exported = [json.loads(canonical_json(group_of(one))) for one in stored.iter_rows(named=True)]
    assert place.ingest("exported.jsonl", exported) is None
    assert place.ingest("with more.jsonl", [*exported, row(40)]) is not None
    place.ingest("renamed.jsonl", [one | {"segment": "from elsewhere"} for one in exported])
    assert HERS in _labelers(place)
    place.forget(Subject(labelers=frozenset({pseudonym(KEY, WHO)})))
    assert _labelers(place) == {pseudonym(KEY, "bob"), pseudonym(KEY, "cleo")}
