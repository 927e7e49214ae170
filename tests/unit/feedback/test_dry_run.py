"""A dry run counts what the ingest then does, and leaves no trace."""

import json
from pathlib import Path

import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.dry_run import in_words, look
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.store import FeedbackStore

HEADER, FORMAT = "id,text,labeler,score", "ratings-long"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(count: int) -> list[str]:
    return [f"{number},text {number},w{number % 2},{number % 5 + 1}" for number in range(count)]


def test_the_first_records_and_the_counts_of_the_real_ingest(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    path = write(tmp_path / "labels.csv", HEADER, *rows(40), rows(1)[0], "99,text,w1,x")
    before = files(tmp_path)
    said: list[str] = []
    found = look([path], store, settings, key=key, say=said.append)
    assert files(tmp_path) == before
    assert said == ["labels.csv: format ratings-long (it has the columns 'text', 'labeler' and 'score')"]
    assert [json.loads(record)["group_id"] for record in found.records] == ["0", "1", "2"]
    assert json.loads(found.records[0])["labels"][0]["labeler"] == pseudonym(key, "w0")
    assert found.report == ingest([path], store, settings, key=key)
    assert found.kinds == {"rating": 40}
    assert found.reasons == {'score: found "x"; expected a number': 1}
    words = "\n".join(in_words(found))
    assert "rows: 42 = 40 taken, 1 quarantined, 1 duplicates, 0 skipped" in words
    assert "groups: 40; labels: 40 (40 rating); labelers: 2" in words


def test_what_the_store_has_is_counted_as_duplicates(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    ingest([write(tmp_path / "one.csv", HEADER, *rows(8))], store, settings, key=key)
    before = files(tmp_path / "store")
    found = look([write(tmp_path / "two.csv", HEADER, *rows(10))], store, settings, key=key)
    assert found.report is not None
    assert (found.report.rows_taken, found.report.rows_duplicate) == (2, 8)
    again = look([tmp_path / "one.csv"], store, settings, key=key)
    assert again.report is not None
    assert again.report.digest is None
    assert len(again.records) == 3
    assert in_words(again)[-1] == "nothing new: the store has every row that can be taken"
    assert files(tmp_path / "store") == before


def test_what_the_ingest_would_refuse_is_told_behind_the_records(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    path = write(tmp_path / "labels.csv", HEADER, *rows(4), "99,text,w1,x")
    found = look([path], store, settings, key=key)
    assert found.refusal is not None
    assert "1 of 5 rows (20.0%) cannot be used" in found.refusal
    assert len(found.records) == 3
    assert found.reasons == {'score: found "x"; expected a number': 1}
    words = in_words(found)[3:]
    assert words[0] == "would be refused, see below; if every row might fail (validation.max_failed_share=1):"
    assert words[1] == "rows: 5 = 4 taken, 1 quarantined, 0 duplicates, 0 skipped"
    assert '  quarantined, score: found "x"; expected a number: 1' in words
    assert not (tmp_path / "store").exists()


def test_a_file_of_which_no_row_can_be_used_is_counted_and_not_called_known(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    found = look([write(tmp_path / "labels.csv", HEADER, "99,text,w1,x")], store, settings, key=key, format=FORMAT)
    assert found.refusal is not None
    assert in_words(found)[1] == "rows: 1 = 0 taken, 1 quarantined, 0 duplicates, 0 skipped"
    assert not [line for line in in_words(found) if "nothing new" in line]


def test_another_refusal_has_no_counts(tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes) -> None:
    ingest([write(tmp_path / "one.csv", HEADER, *rows(8))], store, settings, key=key)
    found = look([write(tmp_path / "two.csv", HEADER, *rows(10))], store, settings, key=b"another key of this test")
    assert found.report is None
    assert found.refusal is not None
    assert "the labeler key differs" in found.refusal
    assert len(in_words(found)) == 3


def test_a_file_of_no_format_is_refused_at_once(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    with pytest.raises(BadInputError, match="format not recognized"):
        look([write(tmp_path / "x.csv", "a,b", "1,2")], store, settings, key=key)


def test_nothing_that_a_terminal_acts_on_is_shown(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    path = write(tmp_path / "labels.csv", HEADER, "9,a \u009b31m \u202e b \x1b[2J ü,w1,3", *rows(3)[1:])
    (line, *_) = in_words(look([path], store, settings, key=key))
    assert r"a \u009b31m \u202e b \u001b[2J ü" in line
