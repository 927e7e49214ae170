"""The drop folder: what is complete, what becomes of good and bad files, and that no label is lost or counted twice."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.arrivals import Seen, complete_files
from rewardloop.operation.inbox import open_inbox, take_inbox
from rewardloop.storage import Storage, StoreError
from tests.object_store import serving_bucket

KEY = b"a labeler key of the tests"
ROWS = "id,text,labeler,score\n" + "".join(
    f"{number},text {number},w{number % 2},{number % 5}\n" for number in range(6)
)
MORE = ROWS.replace("text", "another").replace("id,another,", "id,text,")


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate({"organization": "acme", "model": {"base": "random:tiny"}})


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore.open(str(tmp_path / "store"))


@pytest.fixture
def take(store: FeedbackStore, settings: Settings) -> Callable[[list[Path]], IngestReport]:
    return lambda paths: ingest(paths, store, settings, key=KEY)


@pytest.fixture
def inbox(tmp_path: Path) -> Storage:
    return open_inbox(str(tmp_path / "inbox"))


def drop(inbox: Storage, name: str, text: str | bytes, *, age: float = 60) -> Path:
    path = Path(inbox.root) / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (time.time() - age,) * 2)
    return path


def names(inbox: Storage) -> list[str]:
    root = Path(inbox.root)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_one_file_is_one_batch_and_then_taken(inbox: Storage, store: FeedbackStore, take: Any) -> None:
    drop(inbox, "a.csv", ROWS)
    drop(inbox, "b.csv", MORE)
    said: list[str] = []
    report = take_inbox(inbox, take, stable_seconds=5, say=said.append)
    assert set(report.taken) == {"a.csv", "b.csv"}
    assert [batch.source for batch in store.batches()] == ["a.csv", "b.csv"]
    assert said[0].startswith("a.csv: batch ")
    day = time.strftime("%Y%m%d", time.gmtime())
    digests = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in (ROWS, MORE)]
    assert names(inbox) == sorted([f"taken/{day}-{digests[0]}-a.csv", f"taken/{day}-{digests[1]}-b.csv"])
    assert take_inbox(inbox, take, stable_seconds=5).taken == {}


def test_a_bad_file_is_rejected_with_its_reason(inbox: Storage, store: FeedbackStore, take: Any) -> None:
    drop(inbox, "bad.csv", "x,y\n1,2\n")
    drop(inbox, "cut.csv.gz", b"\x1f\x8b\x08\x00 nonsense")
    drop(inbox, "empty.csv", "")
    report = take_inbox(inbox, take, stable_seconds=5)
    assert set(report.rejected) == {"bad.csv", "cut.csv.gz", "empty.csv"}
    assert store.batches() == []
    for name in report.rejected:
        assert (Path(inbox.root) / "rejected" / name).is_file()
        why = (Path(inbox.root) / "rejected" / f"{name}.why.txt").read_text()
        assert report.rejected[name] in why
        assert "Mend the file and put it into the inbox again." in why
        assert "/tmp" not in why.replace(str(inbox.root), "")
    assert report.rejected["empty.csv"] == "empty.csv: is empty; expected rows of feedback"
    assert "cut.csv.gz: the gzip file is" in report.rejected["cut.csv.gz"]


def test_equal_names_keep_both(inbox: Storage, take: Any) -> None:
    for text in ("x,y\n1,2\n", "x,y\n3,4\n"):
        drop(inbox, "bad.tar.csv", text)
        take_inbox(inbox, take, stable_seconds=5)
    for _ in range(2):
        drop(inbox, "good.csv", ROWS)
        take_inbox(inbox, take, stable_seconds=5)
    rejected = [name for name in names(inbox) if name.startswith("rejected/")]
    assert rejected == [
        "rejected/bad-2.tar.csv",
        "rejected/bad-2.tar.csv.why.txt",
        "rejected/bad.tar.csv",
        "rejected/bad.tar.csv.why.txt",
    ]
    taken = [name for name in names(inbox) if name.startswith("taken/")]
    assert len(taken) == 2
    assert taken[0].endswith("-good-2.csv")


@pytest.mark.parametrize("name", [".labels.csv", "labels.csv.part", "labels.csv.TMP", "labels.csv.crdownload"])
def test_temporary_names_are_passed_over(inbox: Storage, take: Any, name: str) -> None:
    path = drop(inbox, name, ROWS)
    assert take_inbox(inbox, take, stable_seconds=0).taken == {}
    assert path.is_file()
    path.rename(path.with_name("labels.csv"))  # the end of a copy: its time is old enough already
    assert set(take_inbox(inbox, take, stable_seconds=5).taken) == {"labels.csv"}


def test_folders_and_links_are_not_looked_into(inbox: Storage, tmp_path: Path, take: Any) -> None:
    (Path(inbox.root) / "taken").mkdir()
    (Path(inbox.root) / "taken" / "old.csv").write_text(ROWS)
    (tmp_path / "secret").write_text(ROWS)
    (Path(inbox.root) / "link.csv").symlink_to(tmp_path / "secret")
    report = take_inbox(inbox, take, stable_seconds=0)
    assert (report.taken, report.rejected, report.waiting) == ({}, {}, ())


def test_a_file_that_grows_waits(inbox: Storage) -> None:
    path = drop(inbox, "a.csv", "id", age=0)
    now, seen = path.stat().st_mtime, Seen()
    assert complete_files(inbox, 5, seen, now=now + 1, clock=100) == ({}, ("a.csv",))
    assert set(complete_files(inbox, 5, Seen(), now=now + 5, clock=0)[0]) == {"a.csv"}
    # A clock that runs ahead of ours: what counts is that nothing changed between two passes.
    os.utime(path, (now + 3600,) * 2)
    assert complete_files(inbox, 5, seen, now=now + 1, clock=103) == ({}, ("a.csv",))
    assert complete_files(inbox, 5, seen, now=now + 1, clock=107) == ({}, ("a.csv",))
    path.write_text("id,text")
    os.utime(path, (now + 3600,) * 2)
    assert complete_files(inbox, 5, seen, now=now + 1, clock=109) == ({}, ("a.csv",))
    assert set(complete_files(inbox, 5, seen, now=now + 1, clock=114)[0]) == {"a.csv"}
    path.unlink()
    assert complete_files(inbox, 5, seen, now=now, clock=115) == ({}, ())
    assert seen.since == {}


def test_a_crash_between_ingest_and_move(inbox: Storage, store: FeedbackStore, take: Any) -> None:
    path = drop(inbox, "a.csv", ROWS)
    take([path])
    report = take_inbox(inbox, take, stable_seconds=5)
    assert report.taken["a.csv"].digest is None
    assert len(store.batches()) == 1
    assert [name.partition("/")[0] for name in names(inbox)] == ["taken"]


def test_another_process_takes_it_first(inbox: Storage, store: FeedbackStore, take: Any) -> None:
    drop(inbox, "a.csv", ROWS)

    def slow(paths: list[Path]) -> IngestReport:
        take_inbox(inbox, take, stable_seconds=5)  # from beginning to end while this one reads
        return take(paths)

    report = take_inbox(inbox, slow, stable_seconds=5)
    assert report.taken["a.csv"].digest is None
    assert len(store.batches()) == 1
    assert len(names(inbox)) == 1


def test_a_file_that_is_written_to_while_it_is_read(inbox: Storage, store: FeedbackStore, take: Any) -> None:
    path = drop(inbox, "a.csv", ROWS)

    def slow(paths: list[Path]) -> IngestReport:
        report = take(paths)
        with path.open("a") as stream:
            stream.write("6,text 6,w1,2\n")
        return report

    report = take_inbox(inbox, slow, stable_seconds=5)
    assert report.troubled == {"a.csv": "changed while it was read"}
    assert names(inbox) == ["a.csv"]
    os.utime(path, (1_000, 1_000))
    assert take_inbox(inbox, take, stable_seconds=5).taken["a.csv"].rows_taken == 1
    assert sum(batch.rows_taken for batch in store.batches()) == 7


def test_a_bad_half_is_not_rejected(inbox: Storage, take: Any) -> None:
    path = drop(inbox, "a.csv", "id,te")

    def slow(paths: list[Path]) -> IngestReport:
        drop(inbox, "a.csv", ROWS)
        return take(paths)

    assert take_inbox(inbox, slow, stable_seconds=5).rejected == {}
    assert names(inbox) == ["a.csv"]
    assert path.read_text() == ROWS


def test_another_file_of_the_same_name_is_not_lost(inbox: Storage, store: FeedbackStore, take: Any) -> None:
    path = drop(inbox, "a.csv", ROWS)

    def slow(paths: list[Path]) -> IngestReport:
        report = take(paths)
        path.unlink()  # as if another process had moved it, and its owner dropped the next
        drop(inbox, "a.csv", MORE)
        return report

    take_inbox(inbox, slow, stable_seconds=5)
    assert path.read_text() == MORE
    take_inbox(inbox, take, stable_seconds=5)
    assert len(store.batches()) == 2


@pytest.mark.parametrize(
    ("error", "cause"),
    [(BadInputError, OSError(28, "No space left on device")), (StoreError, TimeoutError()), (StoreError, None)],
)
def test_what_is_not_the_file_s_fault_leaves_it(
    inbox: Storage, take: Any, error: type[BadInputError], cause: OSError | None
) -> None:
    drop(inbox, "a.csv", ROWS)
    drop(inbox, "b.csv", MORE)

    def full(paths: list[Path]) -> IngestReport:
        if paths[0].name == "b.csv":
            return take(paths)
        raise error("store: cannot be written") from cause

    report = take_inbox(inbox, full, stable_seconds=5)
    assert report.troubled == {"a.csv": f"{error.__name__}: store: cannot be written"}
    assert set(report.taken) == {"b.csv"}

    def defect(paths: list[Path]) -> IngestReport:
        raise ZeroDivisionError("nobody foresaw it")

    assert take_inbox(inbox, defect, stable_seconds=5).troubled == {"a.csv": "ZeroDivisionError: nobody foresaw it"}
    assert "a.csv" in names(inbox)


def test_a_name_that_would_break_a_line(inbox: Storage, take: Any) -> None:
    said: list[str] = []
    drop(inbox, "a\nb.csv", "x,y\n1,2\n")
    take_inbox(inbox, take, stable_seconds=5, say=said.append)
    assert said[0].startswith("a?b.csv: rejected: ")


def test_an_inbox_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"trigger.inbox: .* cannot be opened: File exists; name a folder"):
        open_inbox(str(tmp_path / "file"))
    with pytest.raises(BadInputError, match=r"trigger.inbox: 'nix://bucket' cannot be opened"):
        open_inbox("nix://bucket")


@pytest.fixture
def bucket() -> Iterator[Storage]:
    """A folder of a real S3 server on 127.0.0.1."""
    with serving_bucket("acme-inbox") as url:
        yield Storage.open(f"{url}/inbox")


def test_an_inbox_on_an_object_store(bucket: Storage, store: FeedbackStore, take: Any) -> None:
    assert take_inbox(bucket, take, stable_seconds=0).taken == {}
    bucket.write("good.csv", ROWS.encode())
    bucket.write("bad.csv", b"x,y\n1,2\n")
    assert take_inbox(bucket, take, stable_seconds=60).waiting == ("bad.csv", "good.csv")

    def slow(paths: list[Path]) -> IngestReport:
        report = take(paths)
        bucket.write("good.csv", MORE.encode())
        return report

    report = take_inbox(bucket, slow, stable_seconds=0)
    assert report.troubled == {"good.csv": "changed while it was read"}
    assert set(report.rejected) == {"bad.csv"}
    assert set(take_inbox(bucket, take, stable_seconds=0).taken) == {"good.csv"}
    assert len(store.batches()) == 2
    assert bucket.list("") == ["rejected", "taken"]
    assert bucket.list("rejected") == ["bad.csv", "bad.csv.why.txt"]
    assert len(bucket.list("taken")) == 1
