"""Kept results: whole or not at all, found by what they are made of, bounded, and never in the way."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewardloop.kept import Kept, code_fingerprint, key_of, room
from rewardloop.storage import Storage
from tests.object_store import serving_bucket

KEY = key_of(content="a batch", limits={"least": 1})


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """URL of an empty bucket."""
    with serving_bucket("keeping") as url:
        yield url


@pytest.fixture(params=["local", "memory", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "s3":
        return Kept(Storage.open(f"{request.getfixturevalue('s3')}/{tmp_path.name}"))
    return Kept(Storage.open(str(tmp_path / "store") if request.param == "local" else f"memory://{tmp_path.name}/kept"))


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_result_is_found_by_what_it_is_made_of(kept: Kept, tmp_path: Path) -> None:
    source = tmp_path / "rows.bin"
    source.write_bytes(b"rows" * 1000)
    assert kept.read("things", KEY) is None
    kept.keep("things", KEY, {"rows.bin": source, "about.json": b"{}"}, ["b2", "b1", "b2"])
    assert kept.read("things", KEY) == {"rows.bin": b"rows" * 1000, "about.json": b"{}"}
    assert kept.read("others", KEY) is None
    assert kept.read("things", key_of(content="a batch", limits={"least": 2})) is None
    (result,) = kept.results()
    assert (result.kind, result.key, result.is_whole) == ("things", KEY, True)
    assert result.size > 4002
    assert kept.batches_of(result) == {"b1", "b2"}
    kept.remove("things", KEY)
    assert kept.results() == []
    assert kept.read("things", KEY) is None


def test_fetched_files_stay_when_the_result_goes(kept: Kept, tmp_path: Path) -> None:
    kept.keep("things", KEY, {"rows.bin": b"rows"}, ["b"])
    found = kept.fetch("things", KEY, tmp_path / "here")
    assert found is not None
    kept.remove("things", KEY)
    assert found["rows.bin"].read_bytes() == b"rows"


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "entry"])
def test_a_damaged_result_is_none_and_can_be_kept_again(tmp_path: Path, damage: str) -> None:
    kept = Kept(Storage.open(str(tmp_path / "store")))
    kept.keep("things", KEY, {"rows.bin": b"rows" * 10}, ["b"])
    (path,) = [path for path in files_in(tmp_path / "store") if path.name.endswith("rows.bin")]
    if damage == "bit":
        path.write_bytes(b"Rows" + path.read_bytes()[4:])
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "gone":
        path.unlink()
    else:
        path.with_name("entry.json").write_text("{")
    assert kept.read("things", KEY) is None
    kept.keep("things", KEY, {"rows.bin": b"rows"}, ["b"])
    assert kept.read("things", KEY) == {"rows.bin": b"rows"}


def test_a_killed_writer_leaves_nothing_that_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        pass

    def die(*_: object, **__: object) -> bool:
        raise KilledError

    kept = Kept(Storage.open(str(tmp_path / "store")))
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "create", die)
        with pytest.raises(KilledError):
            kept.keep("things", KEY, {"rows.bin": b"rows"}, ["b"])
    assert kept.read("things", KEY) is None
    (left,) = kept.results()
    assert not left.is_whole
    assert kept.batches_of(left) is None
    assert kept.superfluous(1 << 30) == []  # somebody may be writing it
    (tmp_path / "store" / left.place / ".tmp-half").write_bytes(b"ro")
    for path in files_in(tmp_path / "store"):
        os.utime(path, (1e9, 1e9))
    kept.trim(1 << 30)
    assert files_in(tmp_path / "store") == []


def test_of_two_writers_at_once_one_wins_whole(tmp_path: Path) -> None:
    kept = Kept(Storage.open(str(tmp_path / "store")))
    start = threading.Barrier(4)

    def write(number: int) -> None:
        start.wait()
        kept.keep("things", KEY, {"a.bin": b"%d" % number * 5000, "b.bin": b"%d" % number}, ["b"])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = kept.read("things", KEY)
    assert found is not None
    assert found["a.bin"] == found["b.bin"] * 5000
    assert len(files_in(tmp_path / "store")) == 3


def test_what_cannot_be_kept_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    Kept(Storage.open(str(tmp_path / "store"))).keep("things", KEY, {"rows.bin": b"rows"}, ["b"])
    assert "cannot be kept" in caplog.text


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    kept = Kept(Storage.open(str(tmp_path / "store")))
    keys = [key_of(number=number) for number in range(4)]
    for number, key in enumerate(keys):
        kept.keep("things", key, {"rows.bin": bytes(1000)}, ["b"])
        entry = tmp_path / "store" / "kept" / "things" / key / "entry.json"
        os.utime(entry, (time.time() - 10_000 + number,) * 2)
    assert kept.read("things", keys[0]) is not None  # now it was used last
    each = max(one.size for one in kept.results())
    assert [one.key for one in kept.superfluous(2 * each)] == [keys[1], keys[2]]
    kept.trim(2 * each)
    assert {one.key for one in kept.results()} == {keys[0], keys[3]}
    kept.trim(0)
    assert kept.results() == []


def test_room_grows_with_the_batches() -> None:
    assert room(10) == 1 << 30
    assert room(1 << 31) == 1 << 33


def test_other_code_makes_other_results() -> None:
    assert code_fingerprint("feedback") == code_fingerprint("feedback")
    assert code_fingerprint("feedback") != code_fingerprint("preferences")
