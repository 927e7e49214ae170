"""The watch: it looks when something came, when time is up, after a failure, and not when it has looked already."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rewardloop.errors import BadInputError
from rewardloop.operation.watch import Marks, Place, Wakes, follow_events, watch
from rewardloop.storage import Storage
from tests.object_store import serving_bucket


class Stopped(BaseException):
    """Ends a watch as a signal does."""


class Watched:
    """A watch over one folder, and the moments of its looks."""

    def __init__(self, folder: Path, answers: list[Any], *, poll_seconds: float = 60, settings: str = "s") -> None:
        self.place = Place(Storage.open(str(folder)), "inbox")
        self.keep = (Storage.open(str(folder / "home")), "watch.json")
        self.answers, self.poll_seconds, self.settings = answers, poll_seconds, settings
        self.wakes, self.looks, self.said = Wakes(), list[list[str]](), list[str]()
        self.began = time.monotonic()
        self.after = list[float]()

    def look(self, woken: list[str]) -> datetime | None:
        """Give the next answer: a moment, nothing, an error, or seconds from now."""
        self.looks.append(woken)
        self.after.append(time.monotonic() - self.began)
        if not self.answers:
            raise Stopped
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return datetime.now(UTC) + timedelta(seconds=answer) if isinstance(answer, float) else None

    def run(self) -> None:
        with pytest.raises(Stopped):
            watch(
                [self.place],
                self.look,
                self.wakes,
                poll_seconds=self.poll_seconds,
                keep=self.keep,
                settings=self.settings,
                say=self.said.append,
            )


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_wakes_it_and_says_who_it_was(tmp_path: Path) -> None:
    watched = Watched(tmp_path, [None])
    watched.wakes.add("early")
    thread = threading.Thread(target=watched.run)
    thread.start()
    wait_for(lambda: len(watched.looks) == 2 or not thread.is_alive())
    thread.join()
    assert watched.looks == [[], ["early"]]


def test_file_events_wake_it_at_once(tmp_path: Path) -> None:
    watched, stop = Watched(tmp_path, [None]), threading.Event()
    places = [watched.place, Place(watched.place.storage, "batches", recursive=True)]
    follower = follow_events(places, watched.wakes, stop, watched.said.append)
    time.sleep(0.3)  # until the folders are watched
    try:
        for name in (".hidden", "a.csv.part"):
            (tmp_path / "inbox" / name).write_text("x")
        (tmp_path / "inbox" / "taken").mkdir()
        (tmp_path / "inbox" / "taken" / "a.csv").write_text("x")
        time.sleep(0.3)
        # The folder itself is seen (it may hide a file that was moved there), nothing in it.
        assert len(watched.wakes.wait(0)) <= 1
        (tmp_path / "inbox" / "a.csv").write_text("x")
        assert watched.wakes.wait(5)
        (tmp_path / "batches" / "digest").mkdir()
        (tmp_path / "batches" / "digest" / "manifest.json").write_text("{}")
        assert watched.wakes.wait(5)
    finally:
        stop.set()
        follower.join(timeout=10)
    assert not follower.is_alive()


def test_without_events_a_listing_finds_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, [None], poll_seconds=0.05)
    thread = threading.Thread(target=watched.run)
    thread.start()
    wait_for(lambda: watched.looks)
    time.sleep(0.3)
    assert len(watched.looks) == 1  # six listings, nothing new
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.csv").write_text("x")
    thread.join(timeout=10)
    assert watched.looks == [[], []]


def test_when_time_alone_makes_it_due(tmp_path: Path) -> None:
    watched = Watched(tmp_path, [0.2])
    watched.run()
    assert len(watched.looks) == 2
    assert watched.after[1] >= 0.2


def test_a_failing_look_does_not_end_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, [BadInputError("store: away"), KeyError("defect"), OSError("disk")], poll_seconds=0.1)
    watched.run()
    assert len(watched.looks) == 4
    assert watched.after[1] >= 0.1
    assert watched.said[0] == "store: away\nThe watch goes on."
    assert "KeyError: 'defect'" in watched.said[1]
    assert "in look" in watched.said[1]  # where it happened


def test_a_restart_does_not_look_again(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()

    def looks_of_a_restart(settings: str = "s") -> int:
        watched = Watched(tmp_path, [], poll_seconds=0.05, settings=settings)
        threading.Timer(0.4, watched.wakes.add, ["stop"]).start()
        watched.run()
        return len([woken for woken in watched.looks if woken != ["stop"]])

    first = Watched(tmp_path, [None])
    first.wakes.add("stop")
    first.run()  # killed in the middle of its second look
    assert looks_of_a_restart() == 1
    keep = first.keep
    keep[0].write(keep[1], marks_of(first).model_dump_json().encode())
    assert looks_of_a_restart() == 0
    keep[0].write(keep[1], marks_of(first).model_dump_json().encode())
    assert looks_of_a_restart(settings="others") == 1
    keep[0].write(keep[1], marks_of(first).model_dump_json().encode())
    (tmp_path / "inbox" / "a.csv").write_text("x")
    assert looks_of_a_restart() == 1
    past = marks_of(first).model_copy(update={"again_at": datetime.now(UTC)})
    keep[0].write(keep[1], past.model_dump_json().encode())
    assert looks_of_a_restart() == 1


def marks_of(watched: Watched) -> Marks:
    return Marks(settings="s", places={watched.place.name: watched.place.mark()}, again_at=None)


def test_marks_that_cannot_be_read_or_kept(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    assert Marks.read(storage, "watch.json") is None
    storage.write("watch.json", b"{")
    assert Marks.read(storage, "watch.json") is None
    (tmp_path / "home").write_text("no folder")
    watched = Watched(tmp_path, [0.0])
    watched.run()
    assert len(watched.looks) == 2
    assert "The watch goes on; started again, it looks at everything." in watched.said[0]


def test_a_batch_is_news_when_its_manifest_is_there(tmp_path: Path) -> None:
    place = Place(Storage.open(str(tmp_path)), "batches", recursive=True)
    nothing = place.mark()
    assert nothing.startswith("0 ")
    check_marks(place)
    place.storage.write("batches/digest/.tmp-half", b"x")
    before = place.mark()
    (tmp_path / "batches" / "digest" / ".tmp-half").unlink()
    assert place.mark() == before


def check_marks(place: Place) -> None:
    place.storage.write("batches/digest/records.parquet", b"rows")
    records = place.mark()
    assert records.startswith("1 ")
    place.storage.write("batches/digest/manifest.json", b"{}")
    whole = place.mark()
    assert whole.startswith("2 ")
    assert len({records, whole}) == 2
    assert place.mark() == whole


@pytest.fixture
def bucket() -> Iterator[Storage]:
    """A folder of a real S3 server on 127.0.0.1."""
    with serving_bucket("acme-watch") as url:
        yield Storage.open(f"{url}/store")


def test_an_object_store_is_listed(bucket: Storage, tmp_path: Path) -> None:
    place = Place(bucket, "batches", recursive=True)
    assert place.mark().startswith("0 ")
    check_marks(place)
    wakes, said = Wakes(), list[str]()
    # It sends no events, and nothing is made on this machine for it.
    assert not follow_events([place], wakes, threading.Event(), said.append).is_alive()
    assert said == []
