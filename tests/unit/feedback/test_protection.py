"""An ingest stores no address that it was told to take out, anywhere; rows and ids stay told apart."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import PrivacySettings, Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.forgotten import FORGOTTEN, Forgetting, ForgottenList, text_mark
from rewardloop.feedback.importers.base import Row, Skipped, Taken, content_id
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.protection import Protection, without_texts
from rewardloop.feedback.pseudonyms import keyed_hash, pseudonym
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


def _ingested(store: FeedbackStore, settings: Settings, key: bytes, file: Path, **how: Any) -> list[dict[str, Any]]:
    digest = ingest([file], store, settings, key=key, **how).digest
    assert digest is not None
    return store.read_batch(digest).to_dicts()


def test_ids_of_responses_and_models_are_redacted_and_labels_name_the_new_ids(
    tmp_path: Path, store: FeedbackStore, private: Settings, key: bytes
) -> None:
    anna, bob = "anna@mail.example", "bob@mail.example"
    labels = [
        {"kind": "choice", "chosen": bob, "rejected": anna, "criterion": f"as {bob} asked"},
        {"kind": "ranking", "ranks": {anna: 2, bob: 1}},
        {"kind": "rating", "scores": {anna: 2.0, "c": 3.0}},
        {"kind": "acceptable", "values": {anna: False, bob: True}},
    ]
    responses = [{"response_id": one, "content": f"text {one[0]}", "model": f"{one}-tuned"} for one in (anna, bob, "c")]
    rows = [{"group_id": "g", "responses": responses, "labels": labels}]
    (row,) = _ingested(store, private, key, _write(tmp_path / "labels.jsonl", rows))
    new_anna, new_bob, untouched = (one["response_id"] for one in row["responses"])
    assert new_anna != new_bob
    assert {new_anna[:8], new_bob[:8], untouched} == {"[EMAIL] ", "c"}
    assert row["responses"][0]["model"] == "[EMAIL]-tuned"
    assert [{one["response_id"]: one["value"] for one in label["values"]} for label in row["labels"]] == [
        {new_bob: 1, new_anna: 0},
        {new_anna: 2, new_bob: 1},
        {new_anna: 2, "c": 3},
        {new_anna: 0, new_bob: 1},
    ]
    assert row["labels"][0]["criterion"] == "as [EMAIL] asked"
    assert not [secret for secret in _SECRETS if secret in _everything(tmp_path / "store")]


def test_no_id_is_a_plain_hash_of_what_was_taken_out(
    tmp_path: Path, store: FeedbackStore, private: Settings, key: bytes
) -> None:
    file = tmp_path / "texts.csv"
    lines = ["text,label", "mail anna@mail.example,1", "mail bob@mail.example,1", "clean,0", "mail bob@mail.example,"]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = _ingested(store, private, key, file, format="classification")
    plain = [content_id("", text) for text in ("mail anna@mail.example", "mail bob@mail.example", "clean")]
    ids = [row["group_id"] for row in rows]
    # Two texts that have become one stay two, each with its label.
    assert len(set(ids)) == 3
    assert [row["responses"][0]["response_id"] for row in rows] == ids
    assert not set(ids[:2]) & set(plain[:2])
    assert ids[2] == plain[2]
    everything = _everything(tmp_path / "store")
    assert not [one for one in plain[:2] if one in everything]
    # Who has another key would make other ids of the same rows.
    assert store.batches()[0].labeler_key is not None
    file.write_text("\n".join([*lines, "one more,1"]) + "\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="the labeler key differs"):
        ingest([file], store, private, key=b"another key of this test", format="classification")
    again = ingest([file], store, private, key=key, format="classification")
    assert (again.rows_taken, again.rows_duplicate, again.rows_quarantined) == (1, 3, 1)


def test_a_reason_names_no_plain_hash_of_what_was_taken_out(
    tmp_path: Path, store: FeedbackStore, private: Settings, key: bytes
) -> None:
    file = tmp_path / "ratings.csv"
    lines = ["text,segment,labeler,score", "my mail: bob@mail.example,a,w1,3", "my mail: bob@mail.example,b,w2,4"]
    file.write_text("\n".join([*lines, *(f"fine {number},a,w1,{number}" for number in range(4))]), encoding="utf-8")
    _ingested(store, private, key, file)
    everything = _everything(tmp_path / "store")
    assert "comes with a different segment" in everything
    assert content_id("", "my mail: bob@mail.example") not in everything


_LONG = "the private address to which you may write is "


@pytest.mark.parametrize(
    ("name", "header", "bad", "good"),
    [
        ("classification", "text,label", f"a,{_LONG}anna.anna.smith@mail.example", "b,1"),
        ("classification", "text,label", f"a,{_LONG[:-3]}+44 20 7946 0958", "b,1"),
        ("ratings-long", "text,labeler,score", f"a,w1,{_LONG}anna.anna.smith@mail.example", "b,w1,1"),
        ("ratings-long", "text,labeler,score", "a,w1,anna@mäil.example", "b,w1,1"),
        ("pairwise", "prompt,response_a,response_b,verdict", f"p,a,b,{_LONG}anna.anna@mail.example", "p,c,d,a"),
        ("pairwise", "prompt,response_a,response_b,verdict,status", "p,a,b,a,anna@mail.example", "p,c,d,a,done"),
    ],
)
def test_no_reason_quotes_half_of_what_is_taken_out(
    name: str, header: str, bad: str, good: str, tmp_path: Path, store: FeedbackStore, private: Settings, key: bytes
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{header}\n{bad}\n{good}\n", encoding="utf-8")
    options = {"keep": "done"} if "status" in header else {}
    report = ingest([file], store, private, key=key, format=name, options=options)
    assert (report.rows_taken, report.rows_quarantined + sum(report.skipped.values())) == (1, 1)
    for told in (_everything(tmp_path / "store"), report.summary, *report.reasons, *report.skipped):
        assert not [part for part in ("anna", "m\\u00e4il", "mäil", "+44") if part in told]


def test_a_row_counts_once_and_only_with_what_the_store_has_of_it(
    tmp_path: Path, store: FeedbackStore, private: Settings, key: bytes
) -> None:
    rows = [_row(0), _row(1, group_id="anna@mail.example", labels=[])]
    report = ingest([_write(tmp_path / "labels-of-anna@mail.example.jsonl", rows)], store, private, key=key)
    # The prompt and a response of the group; those of the quarantined row, with its id.
    assert report.redacted == {"email": 3, "phone": 2}
    assert report.digest is not None
    assert store.batch(report.digest).redacted == report.redacted


def test_what_was_forgotten_as_the_store_has_it_is_not_taken_again() -> None:
    key, group = b"k" * 32, FeedbackGroup.model_validate(_row(1))
    for text in ("Ring [PHONE], 1", "Ring +44 20 7946 0958, 1"):
        mark = text_mark(key, sha256(text.encode()).hexdigest())
        announced = Forgetting(
            sequence=1, at=datetime.now(UTC), by="me", reason="asked", labelers=[], texts=[mark], owner={}
        )
        protection = Protection(Redactor(("phone",), ()), ForgottenList((announced,)), key)
        outcomes = list(protection.over([Taken(group, (Row("a:1", {"text": "Ring +44 20 7946 0958, 1"}),))]))
        assert outcomes == [Skipped(Row("a:1", {"text": "[FORGOTTEN]"}), FORGOTTEN)]
        assert protection.labels == 1


def test_a_forgotten_text_takes_what_was_said_of_it_along() -> None:
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


def test_an_id_is_not_marked_by_the_pseudonym_of_its_owner(key: bytes) -> None:
    assert keyed_hash(key, "anna@acme.org") not in pseudonym(key, "anna@acme.org")
