"""Files that are whole or absent, and created by exactly one of several writers."""

import multiprocessing
import os
import stat
from pathlib import Path

import fsspec
import pytest

from rewardloop.errors import BadInputError
from rewardloop.storage import Storage


def _create(url: str, content: bytes) -> bool:
    return Storage.open(url).create("claims/one.json", content)


def test_of_eight_processes_one_creates(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        won = pool.starmap(_create, [(str(tmp_path), str(i).encode() * 1000) for i in range(8)])
    assert sum(won) == 1
    assert Storage.open(str(tmp_path)).read("claims/one.json") == str(won.index(True)).encode() * 1000


@pytest.mark.parametrize("url", ["local", "memory://storage-test"])
def test_create_write_read_list(url: str, tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path) if url == "local" else url)
    assert storage.create("a/x", b"1")
    assert not storage.create("a/x", b"2")
    assert storage.read("a/x") == b"1"
    storage.write("a/x", b"3")
    storage.write("a/y", b"4")
    assert storage.read("a/x") == b"3"
    assert storage.list("a") == ["x", "y"]
    assert storage.list("nothing") == []
    assert storage.exists("a/y")
    assert not storage.exists("a/z")
    if url != "local":
        fsspec.filesystem("memory").rm("/storage-test", recursive=True)


def test_mode_and_no_leftovers(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    storage.write("secret", b"x", mode=0o600)
    storage.write("plain", b"x")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "secret"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(str(tmp_path))
    storage.write("file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInputError, match=r"file: cannot be written: No space left on device; free space"):
        storage.write("file", b"new")
    assert storage.read("file") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folder_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInputError, match="cannot be written"):
        Storage.open(str(tmp_path / "file")).write("x", b"1")


def test_unknown_protocol_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"store.url: 'nope://x'"):
        Storage.open("nope://x")


def test_a_store_that_cannot_create_exclusively_is_refused(tmp_path: Path) -> None:
    storage = Storage.open(f"dir::file://{tmp_path}")
    with pytest.raises(BadInputError, match="cannot create a file only if it is absent"):
        storage.create("claims/one.json", b"1")
