"""Stores that fail now and then, that lose an answer, or that cannot keep the promise of conditional creation."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
import stamina
from fsspec.implementations.memory import MemoryFileSystem

from rewardloop.config import ClaimSettings, load_settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.arrivals import Seen
from rewardloop.operation.claims import Claim, ClaimState, Wanted, take
from rewardloop.operation.drift_reports import keep_report, latest_drift
from rewardloop.operation.inbox import take_inbox
from rewardloop.storage import Storage
from rewardloop.tracking.history import History
from tests.object_store import serving_bucket
from tests.smoke_data import write_ratings
from tests.unit.operation.test_trigger import drift_report


class FlakyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Memory that fails one call in five: half of the failures before the work is done, half after it."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    chance = random.Random(6)
    failures = 0
    inside = False
    cachable = False

    def _perhaps(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        cls = type(self)
        if cls.inside:  # what the driver asks itself is part of one call
            return call(*args, **kwargs)
        fails, done = cls.chance.random() < 0.2, cls.chance.random() < 0.5
        cls.inside = True
        try:
            answer = None if fails and not done else call(*args, **kwargs)
        finally:
            cls.inside = False
        if fails:
            cls.failures += 1
            raise OSError("connection reset by peer")
        return answer

    def cat_file(self, *args: Any, **kwargs: Any) -> Any:
        return self._perhaps(super().cat_file, *args, **kwargs)

    def info(self, *args: Any, **kwargs: Any) -> Any:
        return self._perhaps(super().info, *args, **kwargs)

    def ls(self, *args: Any, **kwargs: Any) -> Any:
        return self._perhaps(super().ls, *args, **kwargs)

    def pipe_file(self, *args: Any, **kwargs: Any) -> Any:
        return self._perhaps(super().pipe_file, *args, **kwargs)

    def get_file(self, *args: Any, **kwargs: Any) -> Any:
        return self._perhaps(super().get_file, *args, **kwargs)

    def cp_file(self, *args: Any, **kwargs: Any) -> Any:
        return self._perhaps(super().cp_file, *args, **kwargs)

    def rm_file(self, *args: Any, **kwargs: Any) -> Any:
        return self._perhaps(super().rm_file, *args, **kwargs)


class CarelessFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Takes the condition and ignores it, as some servers that speak S3 do."""

    protocol = ("careless", "s3")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        return super().pipe_file(path, value, mode="overwrite", **kwargs)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr("rewardloop.storage._EXCLUSIVE", {"flaky"})
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    stamina.set_testing(True, attempts=6, cap=True)  # without the pauses
    yield Storage.open("flaky://store")
    stamina.set_testing(False)
    FlakyFileSystem.store.clear()


def test_ingest_claim_and_corpus_work_on_a_store_that_fails_one_call_in_five(flaky: Storage, tmp_path: Path) -> None:
    store = FeedbackStore(flaky)
    settings = load_settings(Path("conf/smoke.yaml")).settings
    for number in (1, 2):
        source = write_ratings(tmp_path / f"{number}.csv", texts=40, seed=number)
        ingest([source], store, settings, key=b"k" * 32)
    corpus = store.current_corpus()
    assert len(corpus.batches) == 2
    assert sum(store.read_batch(batch.digest).height for batch in corpus.batches) == 80
    store.write_corpus(corpus)
    assert store.read_corpus(corpus.digest) == corpus
    wanted = Wanted(corpus.digest, "f1" * 32, "a run", "two batches")
    claims = [take(flaky, ClaimSettings(), wanted) for _ in range(20)]
    # An answer that was lost must not make the owner believe that somebody else was first.
    assert isinstance(claims[0], Claim)
    assert all(isinstance(claim, ClaimState) for claim in claims[1:])
    assert FlakyFileSystem.failures > 20


def test_creation_whose_answer_was_lost_is_ones_own(flaky: Storage) -> None:
    for number in range(100):
        assert flaky.create(f"history/{number}.json", f"mine {number}".encode())
        assert not flaky.create(f"history/{number}.json", f"yours {number}".encode())
        assert flaky.read(f"history/{number}.json") == f"mine {number}".encode()


def test_history_and_drift_reports_work_on_a_store_that_fails_one_call_in_five(flaky: Storage) -> None:
    history, rest = History(flaky, "acme-reward"), {"threshold": 0.5, "compared_with": "none", "who": "me"}
    for number in range(1, 31):
        before = str(number - 1) if number > 1 else None
        history.append("promote", str(number), expected=before, why=f"the {number}th", **rest)
    history.append("rollback", "29", expected="30", why="it praises everything", **rest)
    records = history.records()
    # One record per change, none lost and none twice, each beside the one before it.
    assert [record.sequence for record in records] == list(range(1, 32))
    assert [record.previous for record in records[1:]] == [record.version for record in records[:-1]]
    assert history.previous() == "28"
    for day in range(1, 20):
        keep_report(flaky, drift_report(drifted=day == 19, at=datetime(2026, 3, day, tzinfo=UTC)))
    newest = latest_drift(flaky, "3")
    assert newest is not None
    assert (newest.at.day, newest.drifted) == (19, True)
    assert FlakyFileSystem.failures > 20


def test_an_inbox_that_fails_one_call_in_five_is_taken_whole_and_once(flaky: Storage, tmp_path: Path) -> None:
    store, inbox = FeedbackStore(flaky), Storage.open("flaky://inbox")
    settings = load_settings(Path("conf/smoke.yaml")).settings
    for number in range(8):
        source = write_ratings(tmp_path / f"{number}.csv", texts=10, seed=number)
        inbox.write(f"{number}.csv", source.read_bytes())
    inbox.write("bad.csv", b"id,colour\n1,red\n")

    def ingest_one(paths: list[Path]) -> IngestReport:
        return ingest(paths, store, settings, key=b"k" * 32)

    report = take_inbox(inbox, ingest_one, stable_seconds=0, seen=Seen())
    assert report.troubled == {}
    assert inbox.list("") == ["rejected", "taken"]
    assert sum(store.read_batch(batch.digest).height for batch in store.current_corpus().batches) == 80
    assert {name.rpartition("-")[2] for name in inbox.list("taken")} >= {f"{number}.csv" for number in range(8)}
    assert "bad.csv.why.txt" in inbox.list("rejected")


def test_store_that_stays_away_is_named(flaky: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlakyFileSystem, "_perhaps", _away)
    with pytest.raises(BadInputError, match=r"store/x: cannot be written: connection refused; .*try again"):
        flaky.write("x", b"1")
    with pytest.raises(OSError, match="connection refused"):
        flaky.exists("x")


def _away(*args: Any, **kwargs: Any) -> None:
    raise OSError(111, "connection refused")


def test_what_does_not_pass_is_not_asked_again(flaky: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def forbidden(*args: Any, **kwargs: Any) -> None:
        asked.append(1)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FlakyFileSystem, "_perhaps", forbidden)
    with pytest.raises(BadInputError, match="Permission denied"):
        flaky.write("x", b"1")
    assert len(asked) == 1


def test_server_that_ignores_the_condition_is_refused() -> None:
    fsspec.register_implementation("careless", CarelessFileSystem, clobber=True)
    storage = Storage.open("careless://store")
    with pytest.raises(BadInputError, match="cannot create a file only if it is absent"):
        storage.create("claims/one.json", b"1")
    assert not storage.exists("claims/one.json")
    assert storage.list("") == []


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """URL of an empty folder of a bucket."""
    with serving_bucket("feedback") as url:
        yield f"{url}/store"


def test_of_eight_writers_one_creates_on_s3(s3: str) -> None:
    storage, barrier = Storage.open(s3), threading.Barrier(8)

    def create(round_and_writer: tuple[int, int]) -> bool:
        number, writer = round_and_writer
        barrier.wait()
        return storage.create(f"claims/{number}.json", f"writer {writer}".encode())

    with ThreadPoolExecutor(8) as threads:
        for number in range(5):
            won = list(threads.map(create, [(number, writer) for writer in range(8)]))
            assert sum(won) == 1
            assert storage.read(f"claims/{number}.json") == f"writer {won.index(True)}".encode()
    assert storage.list("claims") == [f"{number}.json" for number in range(5)]
    assert storage.exists("claims/0.json")
    assert not storage.exists("claims/9.json")
    assert not any(name.startswith(".tmp-") for name in fsspec.filesystem("s3").ls("feedback/store", detail=False))


def test_claims_work_on_s3(s3: str) -> None:
    storage = Storage.open(s3)
    wanted = Wanted("c0" * 32, "f1" * 32, "a run", "a reason")
    first = take(storage, ClaimSettings(), wanted)
    assert isinstance(first, Claim)
    assert first.beat()
    now = datetime.now(UTC)
    second = take(storage, ClaimSettings(), wanted)
    assert isinstance(second, ClaimState)
    assert (second.state, second.beats) == ("running", 1)
    assert second.last_beat <= now
    assert first.beat(ended=True)
    third = take(storage, ClaimSettings(), wanted)
    assert isinstance(third, Claim)
    assert third.number == 2
