"""The history of promotions is one chain, however many write at once."""

import multiprocessing
from pathlib import Path

import pytest

from rewardloop.errors import RewardloopError
from rewardloop.storage import Storage
from rewardloop.tracking.history import History, HistoryRecord


def _append(history: History, version: str, expected: str | None) -> HistoryRecord:
    return history.append(
        "promote", version, expected=expected, why="a test", threshold=0.5, compared_with=expected or "nothing"
    )


def _insist(task: tuple[str, str]) -> None:
    """Append, comparing again with the new champion whenever somebody else was faster."""
    url, version = task
    history = History(Storage.open(url), "acme-reward")
    while True:
        champion = history.champion()
        try:
            _append(history, version, champion.version if champion else None)
            return
        except RewardloopError:
            continue


def test_eight_processes_make_one_chain(tmp_path: Path) -> None:
    versions = [str(number) for number in range(8)]
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        pool.map(_insist, [(str(tmp_path), version) for version in versions], chunksize=1)
    records = History(Storage.open(str(tmp_path)), "acme-reward").records()
    assert [record.sequence for record in records] == list(range(1, 9))
    assert sorted(record.version for record in records) == versions
    assert [record.previous for record in records] == [None, *(record.version for record in records[:-1])]


def test_a_promotion_against_a_former_champion_is_refused(tmp_path: Path) -> None:
    history = History(Storage.open(str(tmp_path)), "acme-reward")
    assert history.champion() is None
    _append(history, "1", None)
    with pytest.raises(RewardloopError, match="judged against no champion, but the champion is now version 1"):
        _append(history, "2", None)
    assert [record.version for record in history.records()] == ["1"]


def test_two_models_share_the_folder_but_not_the_champion(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    _append(History(storage, "acme-reward"), "7", None)
    other = _append(History(storage, "other-reward"), "1", None)
    assert (other.sequence, other.previous) == (2, None)
    champion = History(storage, "acme-reward").champion()
    assert champion is not None
    assert champion.version == "7"
