"""The step: bad rows to the store's quarantine, a bad batch refused and left out of the next corpus until accepted."""

import json
import stat
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import ValidationEvidence
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
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

    def validate(self) -> Path:
        corpus = self.store.current_corpus()
        self.store.write_corpus(corpus)
        load_corpus(
            store=str(self.folder / "store"),
            corpus_digest=corpus.digest,
            code_version="1",
            corpus=self.folder / "corpus",
        )
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
    kept = pl.read_parquet(place.validate() / "records.parquet")
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
    assert not (tmp_path / "validated" / "records.parquet").exists()

    place.store = FeedbackStore.open(str(tmp_path / "store"))
    assert [batch.digest for batch in place.store.current_corpus().batches] == [fine]
    assert set(pl.read_parquet(place.validate() / "records.parquet")["batch"]) == {fine}

    place.store.accept(bad, by="lead", reason="one careful expert")
    assert set(pl.read_parquet(place.validate() / "records.parquet")["batch"]) == {fine, bad}
    evidence = ValidationEvidence.model_validate_json((tmp_path / "validated/evidence/validation.json").read_bytes())
    verdict = next(verdict for verdict in evidence.batches if verdict.digest == bad)
    assert verdict.accepted_by == "lead"
    assert not verdict.refused
    assert verdict.reasons
