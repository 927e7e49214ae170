"""The step: bad rows to the store's quarantine, a bad batch refused and left out of the next corpus until accepted."""

import gzip
import json
import re
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import ValidationEvidence
from rewardloop.feedback import verdicts
from rewardloop.feedback.data_docs import put_pages
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.snapshots import read_snapshot, write_rows
from rewardloop.steps.load_corpus import load_corpus
from rewardloop.steps.validate_feedback import validate_feedback

KEY = b"0123456789abcdef"


class Place:
    """A store, and the two first steps on it."""

    def __init__(self, folder: Path, **validation: Any) -> None:
        self.folder = folder
        self.settings = Settings.model_validate(
            {
                "organization": "acme",
                "model": {"base": "random:tiny"},
                "validation": {"max_failed_share": 0.2} | validation,
            }
        )
        self.store = FeedbackStore.open(str(folder / "store"))

    def ingest(self, name: str, rows: list[dict[str, Any]]) -> str:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        # Importing lets everything through here, so that validation is what judges.
        lenient = self.settings.model_copy(
            update={"validation": self.settings.validation.model_copy(update={"max_response_characters": 10**9})}
        )
        digest = ingest([path], self.store, lenient, key=KEY).digest
        assert digest is not None
        return digest

    def load(self) -> None:
        corpus = self.store.current_corpus()
        self.store.write_corpus(corpus)
        load_corpus(
            store=str(self.folder / "store"),
            corpus_digest=corpus.digest,
            code_version="1",
            corpus=self.folder / "corpus",
        )

    def validate(self) -> Path:
        self.load()
        validate_feedback(
            corpus=self.folder / "corpus",
            store=str(self.folder / "store"),
            settings=self.settings.section("validation", "preferences"),
            code_version="1",
            validated=self.folder / "validated",
            data_docs=self.folder / "data_docs",
        )
        return self.folder / "validated"


def rows(count: int, start: int = 0, labelers: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "group_id": f"g{i}",
            "prompt": [{"role": "user", "content": f"Question {i}?"}],
            "responses": [{"response_id": "a", "content": f"yes {i}"}, {"response_id": "b", "content": f"no {i}"}],
            "labels": [
                {"kind": "choice", "labeler": f"person {who}", "chosen": "a", "rejected": "b"}
                for who in range(labelers)
            ],
        }
        for i in range(start, start + count)
    ]


def test_bad_rows_go_to_quarantine_and_the_batch_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path, max_response_characters=1000)
    batch = rows(20)
    batch[3]["responses"][0]["content"] = "x" * 10_000_000
    digest = place.ingest("batch.jsonl", batch)
    kept = read_snapshot(place.validate()).scan().collect()
    assert len(kept) == 19
    assert set(kept["batch"]) == {digest}
    evidence = ValidationEvidence.model_validate_json((tmp_path / "validated/evidence/validation.json").read_bytes())
    assert (evidence.groups_in, evidence.groups_kept) == (20, 19)
    assert evidence.quarantined == {"too long a response": 1}
    file = tmp_path / "store" / "quarantine" / digest / "validation.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    row = json.loads(file.read_text())
    assert row["place"] == "batch.jsonl:4"
    assert "person" not in json.dumps(row["row"]["labels"])
    assert (tmp_path / "data_docs" / "index.html").is_file()


def test_a_refused_batch_stops_the_run_once_and_can_be_accepted(tmp_path: Path) -> None:
    place = Place(tmp_path)
    fine = place.ingest("fine.jsonl", rows(10))
    bad = place.ingest("bad.jsonl", rows(10, start=50, labelers=1))
    with pytest.raises(BadInputError) as caught:
        place.validate()
    message = str(caught.value)
    assert f"batch {bad[:12]} (bad.jsonl) is refused:" in message
    assert "labelers: found 1; expected 2 labelers or more" in message
    assert f"rewardloop accept {bad[:12]} --reason WHY" in message
    assert not (tmp_path / "validated" / "snapshot.json").exists()

    place.store = FeedbackStore.open(str(tmp_path / "store"))
    assert [batch.digest for batch in place.store.current_corpus().batches] == [fine]
    assert set(read_snapshot(place.validate()).scan().collect()["batch"]) == {fine}

    place.store.accept(bad, by="lead", reason="one careful expert")
    assert set(read_snapshot(place.validate()).scan().collect()["batch"]) == {fine, bad}
    evidence = ValidationEvidence.model_validate_json((tmp_path / "validated/evidence/validation.json").read_bytes())
    verdict = next(verdict for verdict in evidence.batches if verdict.digest == bad)
    assert verdict.accepted_by == "lead"
    assert not verdict.refused
    assert verdict.reasons


def test_all_refusals_are_reported_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.ingest("fine.jsonl", rows(10))
    first = place.ingest("first.jsonl", rows(10, start=50, labelers=1))
    ties = rows(10, start=80)
    for row in ties:
        row["labels"] = [{"kind": "ranking", "labeler": who, "ranks": {"a": 1, "b": 1}} for who in ("x", "y")]
    second = place.ingest("second.jsonl", ties)
    with pytest.raises(BadInputError) as caught:
        place.validate()
    message = str(caught.value)
    assert f"batch {first[:12]} (first.jsonl) is refused:" in message
    assert f"batch {second[:12]} (second.jsonl) is refused:" in message
    assert "nothing can be learnt where all is a tie" in message
    for digest in (first, second):
        assert f"rewardloop accept {digest[:12]} --reason WHY" in message
        assert place.store.refusal(digest) is not None
    evidence = ValidationEvidence.model_validate_json((tmp_path / "validated/evidence/validation.json").read_bytes())
    assert [verdict.refused for verdict in evidence.batches] == [False, True, True]


def test_a_wrong_criterion_is_a_mistake_of_the_configuration_and_refuses_no_batch(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.settings = place.settings.model_copy(
        update={"preferences": place.settings.preferences.model_copy(update={"criterion": "overal"})}
    )
    digest = place.ingest("fine.jsonl", rows(10))
    with pytest.raises(BadInputError, match="found 'overal', on which no batch has labels; expected one of 'overall'"):
        place.validate()
    assert place.store.refusal(digest) is None
    assert not (tmp_path / "validated" / "snapshot.json").exists()


def test_an_accepted_batch_of_bad_rows_only_leaves_nothing_to_train_on(tmp_path: Path) -> None:
    place = Place(tmp_path, max_response_characters=2)
    digest = place.ingest("long.jsonl", rows(10))
    with pytest.raises(
        BadInputError, match=r"share of unusable rows: found 100\.0%; expected at most 20\.0%"
    ) as caught:
        place.validate()
    assert "long.jsonl:1: too long a response" in str(caught.value)
    assert "and 7 rows more" in str(caught.value)
    place.store.accept(digest, by="lead", reason="trying")
    with pytest.raises(BadInputError, match="every row is in quarantine, nothing is left"):
        place.validate()
    quarantine = tmp_path / "store" / "quarantine" / digest / "validation.jsonl"
    assert len(quarantine.read_text().splitlines()) == 10


def test_a_row_with_nan_can_be_quarantined(tmp_path: Path) -> None:
    place = Place(tmp_path)
    digest = place.ingest("ratings.jsonl", rows(20))
    place.load()
    records = read_snapshot(tmp_path / "corpus").scan().collect()
    labels = records["labels"].to_list()
    labels[4][0]["values"][0]["value"] = float("nan")
    spoilt = records.with_columns(pl.Series("labels", labels, dtype=records.schema["labels"]))
    shutil.rmtree(tmp_path / "corpus" / "records")
    write_rows(tmp_path / "corpus", spoilt, datetime.now(UTC))
    validate_feedback(
        corpus=tmp_path / "corpus",
        store=str(tmp_path / "store"),
        settings=place.settings.section("validation", "preferences"),
        code_version="1",
        validated=tmp_path / "validated",
        data_docs=tmp_path / "data_docs",
    )
    assert len(read_snapshot(tmp_path / "validated").scan().collect()) == 19
    row = json.loads((tmp_path / "store" / "quarantine" / digest / "validation.jsonl").read_text())
    assert row["reason"] == "a rating or rank that is no finite number"
    assert row["row"]["labels"][0]["values"][0]["value"] == "nan"


def test_a_corrected_batch_brings_all_its_rows_again(tmp_path: Path) -> None:
    place = Place(tmp_path, max_response_characters=1000, max_failed_share=0.01)
    batch = rows(20)
    batch[3]["responses"][0]["content"] = "x" * 5000
    place.ingest("batch.jsonl", batch)
    with pytest.raises(BadInputError, match="is refused"):
        place.validate()
    with pytest.raises(BadInputError, match=r"these rows are batch \w+, which validation refused"):
        place.ingest("again.jsonl", batch)
    batch[3] = rows(1, start=99)[0]
    corrected = place.ingest("corrected.jsonl", batch)
    kept = read_snapshot(place.validate()).scan().collect()
    assert len(kept) == 20
    assert set(kept["batch"]) == {corrected}


def test_one_row_per_vote_is_no_repetition(tmp_path: Path) -> None:
    place = Place(tmp_path, min_labelers_per_item=3)
    votes = [row | {"labels": [row["labels"][0] | {"labeler": who}]} for row in rows(10) for who in ("w1", "w2", "w3")]
    place.ingest("votes.jsonl", votes)
    assert len(read_snapshot(place.validate()).scan().collect()) == 30


def no_judge(*_: object) -> None:
    raise AssertionError("a batch is judged again")


def pages(folder: Path) -> set[str]:
    """Names of the pages, without the time that is in their path."""
    return {path.name for path in folder.rglob("*.html") if "static" not in path.parts}


def test_a_batch_is_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, max_response_characters=1000)
    batch = rows(20)
    batch[3]["responses"][0]["content"] = "x" * 2000
    digest = place.ingest("batch.jsonl", batch)
    first = read_snapshot(place.validate()).scan().collect()
    evidence = (tmp_path / "validated/evidence/validation.json").read_bytes()
    quarantine = tmp_path / "store" / "quarantine" / digest / "validation.jsonl"
    written, docs = quarantine.read_bytes(), pages(tmp_path / "data_docs")
    index = (tmp_path / "data_docs" / "index.html").read_text()

    with monkeypatch.context() as patched:
        patched.setattr(verdicts, "Validator", no_judge)
        quarantine.unlink()  # as under other limits meanwhile: it is written anew
        shutil.rmtree(tmp_path / "data_docs")
        again = read_snapshot(place.validate()).scan().collect()
    assert again.equals(first)
    assert (tmp_path / "validated/evidence/validation.json").read_bytes() == evidence
    assert quarantine.read_bytes() == written
    assert pages(tmp_path / "data_docs") == docs
    assert len(docs) == 5  # two of expectations, two of results, the index
    assert (tmp_path / "data_docs" / "index.html").read_text() == index
    assert (tmp_path / "data_docs" / "static").is_dir()

    more = place.ingest("more.jsonl", rows(20, start=50))
    place.validate()
    for name in (digest, more):
        assert {f"rows-{name[:12]}.html", f"batches-batch-{name[:12]}.html"} <= pages(tmp_path / "data_docs")
        assert name[:12] in (tmp_path / "data_docs" / "index.html").read_text()
    found = re.findall('href="([^"]+)"', (tmp_path / "data_docs" / "index.html").read_text())
    assert len(found) == 4
    assert all((tmp_path / "data_docs" / link).is_file() for link in found)


def test_other_limits_judge_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, max_response_characters=1000)
    place.ingest("batch.jsonl", rows(20))
    place.validate()
    place.settings = Place(tmp_path, max_response_characters=4).settings
    monkeypatch.setattr(verdicts, "Validator", no_judge)
    with pytest.raises(AssertionError, match="judged again"):
        place.validate()


def test_a_damaged_verdict_is_found_and_made_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.ingest("batch.jsonl", rows(20))
    first = read_snapshot(place.validate()).scan().collect()
    for path in (tmp_path / "store" / "kept").rglob("*verdict.json"):
        path.write_text('{"rows": 20}')
    assert read_snapshot(place.validate()).scan().collect().equals(first)


def test_rows_of_a_refused_batch_that_came_again_count_once(tmp_path: Path) -> None:
    place = Place(tmp_path, max_response_characters=1000, max_failed_share=0.01)
    batch = rows(20)
    batch[3]["responses"][0]["content"] = "x" * 5000
    refused = place.ingest("batch.jsonl", batch)
    with pytest.raises(BadInputError, match="is refused"):
        place.validate()
    corrected = place.ingest("corrected.jsonl", [*batch[:3], *rows(3, start=99), *batch[4:]])
    assert len(read_snapshot(place.validate()).scan().collect()) == 22
    place.store.accept(refused, by="lead", reason="they are needed")
    kept = read_snapshot(place.validate()).scan().collect()
    assert kept["record"].is_unique().all()
    # Of the older batch everything but the long answer, of the newer one what only it has.
    assert dict(kept.group_by("batch").len().iter_rows()) == {refused: 19, corrected: 3}
    assert kept.filter(batch=corrected)["group_id"].to_list() == ["g99", "g100", "g101"]


def test_pages_are_put_nowhere_else(tmp_path: Path) -> None:
    site = tmp_path / "site"
    names = ["../out.html", "/tmp/out.html", "expectations/../../out.html", "static/x.html", "validations/x.js"]
    packed = gzip.compress(json.dumps(dict.fromkeys([*names, "validations/a/b.html"], "page")).encode())
    put_pages(site, packed)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "site/validations/a/b.html"
    ]
