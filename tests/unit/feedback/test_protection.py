"""An ingest stores no address that it was told to take out, anywhere; rows and ids stay told apart."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rewardloop.config import PrivacySettings, Settings
from rewardloop.feedback.forgotten import Forgetting, ForgottenList
from rewardloop.feedback.importers.base import Row, Skipped, Taken
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.protection import Protection, without_texts
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.redaction import Redactor
from rewardloop.feedback.store import FeedbackStore
from rewardloop.records import FeedbackGroup

_SECRETS = ("anna@mail.example", "bob@mail.example", "+44 20 7946 0958")


def _row(number: int, **changes: object) -> dict[str, object]:
    return {
        "group_id": f"g{number}",
        "prompt": [{"role": "user", "content": f"Question {number}: my mail is anna@mail.example"}],
        "responses": [
            {"response_id": "a", "content": f"Ring +44 20 7946 0958, {number}"},
            {"response_id": "b", "content": f"No, {number}"},
        ],
        "labels": [{"labeler": f"w{number % 3}", "kind": "choice", "chosen": "a", "rejected": "b"}],
    } | changes


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _everything(folder: Path) -> str:
    return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def private(settings: Settings) -> Settings:
    wanted = settings.model_copy(update={"privacy": PrivacySettings(redact=("email", "phone"))})
    return wanted.model_copy(update={"validation": wanted.validation.model_copy(update={"max_failed_share": 0.5})})


def test_texts_rows_names_and_ids_are_redacted_and_counted(
    tmp_path: Path, store: FeedbackStore, private: Settings, key: bytes
) -> None:
    rows = [_row(number) for number in range(6)]
    rows[4]["group_id"], rows[5]["group_id"] = "anna@mail.example", "bob@mail.example"
    bad = _row(7, labels=[{"labeler": "w1", "kind": "choice", "chosen": "a", "rejected": "bob@mail.example"}])
    report = ingest([_write(tmp_path / "anna@mail.example.jsonl", [*rows, bad])], store, private, key=key)

    assert (report.rows_taken, report.rows_quarantined) == (6, 1)
    assert report.redacted["phone"] >= 6
    assert "taken out of texts" in report.summary
    assert report.digest is not None
    manifest = store.batch(report.digest)
    assert manifest.redacted["phone"] == report.redacted["phone"]
    assert manifest.sources[0].name == "[EMAIL]"
    batch = store.read_batch(report.digest)
    assert batch["responses"][0][0]["content"] == "Ring [PHONE], 0"
    assert batch["group_id"].n_unique() == 6
    quarantined = (tmp_path / "store" / "quarantine" / report.digest / "rows.jsonl").read_text()
    assert "[EMAIL]" in quarantined
    assert not [secret for secret in _SECRETS if secret in _everything(tmp_path / "store")]


def test_the_same_file_redacted_twice_is_the_same_batch(
    tmp_path: Path, store: FeedbackStore, private: Settings, key: bytes
) -> None:
    file = _write(tmp_path / "labels.jsonl", [_row(number) for number in range(4)])
    other = FeedbackStore.open(str(tmp_path / "other"))
    assert ingest([file], store, private, key=key).digest == ingest([file], other, private, key=key).digest


def test_a_forgotten_text_takes_what_was_said_of_it_along() -> None:
    from hashlib import sha256

    from rewardloop.feedback.forgotten import text_mark

    key = b"a key of this test"
    group = FeedbackGroup.model_validate(
        {
            "group_id": "g",
            "prompt": [{"role": "user", "content": "Why?"}],
            "responses": [{"response_id": one, "content": f"text {one}"} for one in "abc"],
            "labels": [
                {"kind": "ranking", "ranks": {"a": 1, "b": 2, "c": 3}},
                {"kind": "ranking", "ranks": {"a": 1, "b": 2}},
                {"kind": "choice", "chosen": "b", "rejected": "a"},
                {"kind": "rating", "scores": {"a": 1.0, "c": 2.0}, "scale": [1, 5]},
            ],
        }
    )
    marks = frozenset({text_mark(key, sha256(b"text a").hexdigest())})
    kept = without_texts(group, key, marks)
    assert kept is not None
    assert [one.response_id for one in kept.responses] == ["b", "c"]
    assert [dict(label.values()) for label in kept.labels] == [{"b": 2, "c": 3}, {"c": 2.0}]
    assert without_texts(group, key, frozenset({text_mark(key, sha256(b"Why?").hexdigest())})) is None
    assert (
        without_texts(group, key, frozenset({text_mark(b"another key of this", sha256(b"text a").hexdigest())}))
        == group
    )


def test_every_row_of_a_forgotten_group_stays_in_the_counts_and_what_was_left_out_stays_said() -> None:
    group, key = FeedbackGroup.model_validate(_row(1)), b"k" * 32
    taken = Taken(group, (Row("a.csv:2", {}), Row("a.csv:3", {})), left_out=("a rating is N/A",))
    [kept] = Protection(Redactor(("email",), ()), ForgottenList(), key).over([taken])
    assert isinstance(kept, Taken)
    assert kept.left_out == taken.left_out
    announced = Forgetting(
        sequence=1, at=datetime.now(UTC), by="me", reason="asked", labelers=[pseudonym(key, "w1")], texts=[], owner={}
    )
    outcomes = list(Protection(Redactor((), ()), ForgottenList((announced,)), key).over([taken]))
    assert [one.row.place for one in outcomes if isinstance(one, Skipped)] == ["a.csv:2", "a.csv:3"]
