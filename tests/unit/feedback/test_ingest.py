"""From files to a committed batch: counts, limits, duplicates, and whose names are never written."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback import ingest_rows
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.store import FeedbackStore

LABELERS = ("anna.labeler@acme.org", "ben-the-labeler", "worker 4711 of the north", "cara_who_left")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def good_rows(count: int, start: int = 0) -> list[str]:
    return [f"{number},text {number},{LABELERS[number % 2]},{number % 5 + 1}" for number in range(start, start + count)]


HEADER = "id,text,labeler,score"


def test_a_batch_of_ratings(tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes) -> None:
    path = write(tmp_path / "labels.csv", HEADER, *good_rows(8))
    said: list[str] = []
    report = ingest([path], store, settings, key=key, say=said.append)
    assert said == ["labels.csv: format ratings-long (it has the columns 'text', 'labeler' and 'score')"]
    assert (report.rows_in, report.rows_taken, report.rows_quarantined, report.rows_duplicate) == (8, 8, 0, 0)
    assert (report.groups, report.labels, report.labelers) == (8, 8, 2)
    (manifest,) = store.batches()
    assert manifest.digest == report.digest
    assert manifest.importer == "ratings-long"
    assert [source.name for source in manifest.sources] == ["labels.csv"]
    frame = store.read_batch(manifest.digest)
    assert frame["place"].to_list() == [f"labels.csv:{line}" for line in range(2, 10)]
    assert frame["labels"].to_list()[0][0]["labeler"] == pseudonym(key, LABELERS[0])


def test_the_same_file_again_adds_nothing_and_says_so(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    path = write(tmp_path / "labels.csv", HEADER, *good_rows(8))
    ingest([path], store, settings, key=key)
    before = files(tmp_path)
    again = ingest([path], store, settings, key=key)
    assert again.digest is None
    assert "nothing new" in again.summary
    assert (again.rows_in, again.rows_duplicate) == (8, 8)
    assert files(tmp_path) == before


def test_the_same_rows_in_another_file_are_duplicates(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    ingest([write(tmp_path / "one.csv", HEADER, *good_rows(8))], store, settings, key=key)
    before = files(tmp_path / "store")
    renamed = write(tmp_path / "two.csv", HEADER, *reversed(good_rows(8)))
    assert ingest([renamed], store, settings, key=key).digest is None
    assert files(tmp_path / "store") == before
    more = ingest([write(tmp_path / "three.csv", HEADER, *good_rows(10))], store, settings, key=key)
    assert (more.rows_taken, more.rows_duplicate) == (2, 8)
    assert [batch.groups for batch in store.batches()] == [8, 2]


def test_a_file_with_quarantined_rows_is_read_again_when_limits_change(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    path = write(tmp_path / "labels.csv", HEADER, *good_rows(30), f"99,{'x' * 20_001},anna,1")
    assert ingest([path], store, settings, key=key).rows_quarantined == 1
    assert ingest([path], store, settings, key=key).digest is None
    limits = settings.validation.model_copy(update={"max_response_characters": 30_000})
    report = ingest([path], store, settings.model_copy(update={"validation": limits}), key=key)
    assert (report.rows_taken, report.rows_duplicate) == (1, 30)


def test_too_many_bad_rows_store_nothing_and_name_the_first_reasons(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    path = write(tmp_path / "labels.csv", HEADER, *good_rows(8), "8,text,anna,nan", "9,other,anna,five")
    with pytest.raises(BadInputError) as caught:
        ingest([path], store, settings, key=key)
    message = str(caught.value)
    assert "2 of 10 rows (20.0%) cannot be used; at most 5.0% may fail (validation.max_failed_share)" in message
    assert "labels.csv:10: score: found nan; expected a finite number" in message
    assert 'labels.csv:11: score: found "five"; expected a number' in message
    assert not (tmp_path / "store").exists()


def test_reasons_are_not_held_without_end(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of some megabytes can hold millions of rows of a few bytes."""
    monkeypatch.setattr(ingest_rows, "_MOST_REJECTED", 10)
    lenient = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"max_failed_share": 1.0})}
    )
    task = {"data": {"answer1": "x", "answer2": "y"}, "annotations": [0] * 11}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    with pytest.raises(BadInputError, match=r"(?s)more than 10 rows cannot be used\. Nothing.*annotation 1:"):
        ingest([tmp_path / "export.json"], store, lenient, key=key, format="label-studio-pairwise")
    assert not store.storage.list("quarantine")


def test_a_ten_megabyte_response_is_quarantined(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    path = write(tmp_path / "labels.csv", HEADER, *good_rows(20), f"20,{'x' * 10_000_000},anna,1")
    report = ingest([path], store, settings, key=key)
    assert report.rows_quarantined == 1
    assert "labels.csv:22: a response has 10,000,000 characters; at most 20,000" in report.reasons[0]


def test_one_id_with_two_texts_rejects_both_rows_by_line(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    labels = '[{"kind":"rating","scores":{"a":1}}]'
    record = '{"group_id":"g%s","responses":[{"response_id":"a","content":"%s"}],"labels":' + labels + "}"
    lines = [record % (number, f"text {number}") for number in range(40)]
    path = write(tmp_path / "labels.jsonl", *lines, record % (7, "another text"))
    report = ingest([path], store, settings, key=key)
    assert (report.rows_taken, report.rows_quarantined) == (39, 2)
    assert report.reasons[0] == "labels.jsonl:8: id 'g7' comes with different texts at labels.jsonl:8, labels.jsonl:41"


def test_equal_ids_in_different_files_are_different_items(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    one = write(tmp_path / "one.csv", HEADER, "1,text,anna,3", "2,more,ben,4")
    two = write(tmp_path / "two.csv", HEADER, "1,another text,anna,3", "2,even more,ben,4")
    assert ingest([one, two], store, settings, key=key).rows_taken == 4


def test_labeler_ids_are_in_no_byte_of_the_store(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    wide = write(
        tmp_path / "wide.csv",
        "text,score1,score2,labeler1,labeler2,labeled by",
        *(f"text {number},1,2,{LABELERS[0]},{LABELERS[1]},{LABELERS[2]}" for number in range(60)),
        f"no number,x,2,{LABELERS[2]},{LABELERS[3]},{LABELERS[2]}",
        f"too,many,cells,{LABELERS[0]},{LABELERS[1]},{LABELERS[2]},more",
    )
    named = write(
        tmp_path / "named.csv",
        f"text,score_{LABELERS[0]},score_{LABELERS[1]}",
        *(f"other {number},1,2" for number in range(60)),
        "no number,x,2",
    )
    records = [
        {
            "group_id": f"g{number}",
            "responses": [{"response_id": "a", "content": f"answer {number}"}],
            "labels": [{"labeler": LABELERS[2], "kind": "rating", "scores": {"a": 1}}],
        }
        for number in range(90)
    ]
    broken = [
        {**records[0], "annotator": LABELERS[3]},
        {**records[0], "labels": [{"labeler": LABELERS[3], "kind": "rating", "scores": {"a": float("nan")}}]},
        {**records[0], "labels": [{"labeller": LABELERS[3], "kind": "rating", "scores": {"a": 1}}]},
    ]
    lines = [json.dumps(record) for record in [*records, *broken]]
    canonical = write(tmp_path / "canonical.jsonl", *lines, json.dumps(records[0])[:-9])
    ingest([wide], store, settings, key=key)
    ingest([named], store, settings, key=key, columns={"score": "score_*"})
    ingest([canonical], store, settings, key=key)

    quarantined = sorted((tmp_path / "store" / "quarantine").rglob("*.jsonl"))
    assert len(quarantined) == 3
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in quarantined)
    rows = [json.loads(line) for path in quarantined for line in path.read_text().splitlines()]
    assert sum(row["row"] is None for row in rows) == 2  # the rows that cannot be parsed
    assert sum(pseudonym(key, LABELERS[3]) in json.dumps(row) for row in rows) == 2
    # Parquet is compressed: look at what is in it, too.
    content = b"".join(files(tmp_path / "store").values())
    content += b"".join(store.read_batch(batch.digest).write_ndjson().encode() for batch in store.batches())
    assert pseudonym(key, LABELERS[0]).encode() in content
    for labeler in LABELERS:
        assert labeler.encode() not in content


def test_another_labeler_key_is_refused(tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes) -> None:
    ingest([write(tmp_path / "one.csv", HEADER, *good_rows(4))], store, settings, key=key)
    before = files(tmp_path / "store")
    with pytest.raises(BadInputError, match="the labeler key differs from the one of batch"):
        ingest([write(tmp_path / "two.csv", HEADER, *good_rows(4))], store, settings, key=b"another key of the tests")
    assert files(tmp_path / "store") == before


def test_other_split_settings_are_refused_value_by_value(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    ingest([write(tmp_path / "one.csv", HEADER, *good_rows(4))], store, settings, key=key)
    before = files(tmp_path / "store")
    splits = settings.splits.model_copy(update={"salt": "pepper", "train": 0.6, "test": 0.2})
    with pytest.raises(BadInputError) as caught:
        ingest(
            [write(tmp_path / "two.csv", HEADER, *good_rows(4, start=9))],
            store,
            settings.model_copy(update={"splits": splits}),
            key=key,
        )
    message = str(caught.value)
    assert "splits.salt: the store has 'rewardloop', the configuration says 'pepper'" in message
    assert "splits.train: the store has 0.7, the configuration says 0.6" in message
    assert "splits.test: the store has 0.1, the configuration says 0.2" in message
    assert "splits.validation" not in message
    assert files(tmp_path / "store") == before


def test_a_mixed_archive_is_refused(tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes) -> None:
    one = write(tmp_path / "one.csv", HEADER, *good_rows(4))
    two = write(tmp_path / "two.jsonl", '{"chosen": "a", "rejected": "b"}')
    with pytest.raises(BadInputError, match="format not recognized"):
        ingest([one, two], store, settings, key=key)


_cell = st.sampled_from(["", "1", "2", "9", "x", "nan", "same text", "other text", '"quoted, ""text"""', "anna", "ben"])
_row = st.lists(_cell, min_size=3, max_size=5).map(",".join)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_row, min_size=1, max_size=12), format=st.sampled_from(["ratings-long", "ratings-wide"]))
def test_every_row_is_taken_quarantined_or_a_duplicate(
    rows: list[str], format: str, tmp_path_factory: pytest.TempPathFactory, settings: Settings
) -> None:
    folder = tmp_path_factory.mktemp("property")
    store = FeedbackStore.open(str(folder / "store"))
    header = "id,text,labeler,score" if format == "ratings-long" else "id,text,labeler1,score1"
    path = write(folder / "labels.csv", header, "0,text,anna,1", *rows, *rows)
    lenient = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"max_failed_share": 1.0})}
    )
    report: IngestReport = ingest([path], store, lenient, key=b"k" * 16, format=format)
    assert report.rows_in == 1 + 2 * len(rows)
    assert report.rows_in == report.rows_taken + report.rows_quarantined + report.rows_duplicate
    quarantined = list((folder / "store" / "quarantine").rglob("*.jsonl"))
    assert sum(len(one.read_text().splitlines()) for one in quarantined) == report.rows_quarantined
    assert report.digest is not None
    assert store.read_batch(report.digest).height == report.groups
    again = ingest([path], store, lenient, key=b"k" * 16, format=format)
    assert again.digest is None
    assert again.rows_quarantined == report.rows_quarantined
