"""The history of promotions is one chain, however many write at once."""

import multiprocessing
from pathlib import Path
from typing import Literal

import pytest

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.storage import Storage
from rewardloop.tracking.history import History, HistoryRecord, champions, rolled_back


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


def _record(sequence: int, action: Literal["promote", "rollback"], version: str) -> HistoryRecord:
    return HistoryRecord(
        sequence=sequence,
        action=action,
        name="acme-reward",
        version=version,
        previous=None,
        who="ann",
        why="a test",
        at="2026-01-01T00:00:00+00:00",
        threshold=None,
        compared_with="nothing",
    )


@pytest.mark.parametrize(
    ("changes", "stack", "left"),
    [
        ("", [], {}),
        ("p1 p2 p3", ["1", "2", "3"], {}),
        ("p1 p2 p3 r2", ["1", "2"], {"3": 4}),
        ("p1 p2 p3 r2 r1", ["1"], {"3": 4, "2": 5}),
        ("p1 p2 p3 r1", ["1"], {"3": 4, "2": 4}),
        ("p1 p2 p3 r2 p4", ["1", "2", "4"], {"3": 4}),
        ("p1 p2 p3 r2 p4 r2", ["1", "2"], {"3": 4, "4": 6}),
        ("p1 p2 p3 r2 p3", ["1", "2", "3"], {}),  # promoted again: no longer rolled back from
        ("p1 p2 p3 r2 r3", ["1", "3"], {"2": 5}),  # a version off the stack takes the champion's place
        ("p1 p2 p1 r2", ["1", "2"], {}),  # 1 was left, but stands below
    ],
)
def test_what_a_rollback_goes_back_to(changes: str, stack: list[str], left: dict[str, int]) -> None:
    records = [
        _record(number, "promote" if change[0] == "p" else "rollback", change[1:])
        for number, change in enumerate(changes.split(), start=1)
    ]
    assert [one.version for one in champions(records)] == stack
    assert rolled_back(records) == left


def test_a_record_that_somebody_changed_is_named(tmp_path: Path) -> None:
    history = History(Storage.open(str(tmp_path)), "acme-reward")
    _append(history, "1", None)
    assert history.champion() is not None
    path = tmp_path / "history" / "00000001.json"
    path.write_text(path.read_text().replace("acme-reward", 'acme-reward", "extra": "x'))
    with pytest.raises(BadInputError, match=r"00000001\.json: is not a record of the history.*restore it"):
        History(history.storage, "acme-reward").champion()
    assert history.champion() is not None  # whoever has read a record once need not read it again


def test_two_models_share_the_folder_but_not_the_champion(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    _append(History(storage, "acme-reward"), "7", None)
    other = _append(History(storage, "other-reward"), "1", None)
    assert (other.sequence, other.previous) == (2, None)
    champion = History(storage, "acme-reward").champion()
    assert champion is not None
    assert champion.version == "7"
