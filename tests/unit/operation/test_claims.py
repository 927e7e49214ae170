"""One owner per run: claims made at once, taken over, watched while clocks jump, and closed once."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.pool import Pool
from pathlib import Path

import pytest

from rewardloop.config import ClaimSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.operation.claims import Claim, ClaimOutcome, ClaimState, Clock, Wanted, newest_claim, read_claims, take
from rewardloop.operation.processes import end_orphans, is_gone, this_owner
from rewardloop.storage import Storage

SETTINGS = ClaimSettings(lease_seconds=60, heartbeat_seconds=20)
QUICK = ClaimSettings(lease_seconds=0.3, heartbeat_seconds=0.05)
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
CORPUS, CONFIG = "c0" * 32, "f1" * 32


def _wanted(run_id: str = "first", *, corpus: str = CORPUS, again: str | None = None) -> Wanted:
    return Wanted(corpus=corpus, config=CONFIG, run_id=run_id, reason="37 new labels", again=again)


def _clock(at: datetime = START, waiting: Callable[[], object] = lambda: None) -> Clock:
    """A clock that stands still; ``waiting`` is what happens while somebody waits."""

    def sleep(seconds: float) -> None:
        assert seconds == 2 * SETTINGS.heartbeat_seconds
        waiting()

    return Clock(now=lambda: at, sleep=sleep)


def _never(seconds: float) -> None:
    raise AssertionError(f"waited for {seconds} s")


def _outcome(run_id: str = "first") -> ClaimOutcome:
    return ClaimOutcome(status="blessed", finished_at=START, report="/r.html", run_id=run_id, version="1")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def _claim_rounds(url: str, rounds: int) -> list[str | None]:
    storage = Storage.open(url)
    won: list[str | None] = []
    for number in range(rounds):
        barrier.wait()
        taken = take(storage, SETTINGS, _wanted(f"{os.getpid()}", corpus=f"{number:064d}"))
        won.append(taken.attempt.run_id if isinstance(taken, Claim) else None)
    barrier.wait()  # a process that has ended owns nothing
    return won


def _share(one: "threading.Barrier") -> None:
    global barrier
    barrier = one


@pytest.fixture
def eight() -> Iterator[Pool]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(8, initializer=_share, initargs=(context.Barrier(8),)) as pool:
        yield pool


def test_eight_processes_that_claim_at_once_are_one_owner_each_round(tmp_path: Path, eight: Pool) -> None:
    rounds = zip(*eight.starmap(_claim_rounds, [(str(tmp_path), 30)] * 8, chunksize=1), strict=True)
    owners = [[run_id for run_id in each if run_id] for each in rounds]
    assert [len(each) for each in owners] == [1] * 30
    states = read_claims(Storage.open(str(tmp_path)))
    assert sorted(state.run_id for state in states) == sorted(run_id for (run_id,) in owners)


def test_a_held_run_is_described(storage: Storage) -> None:
    mine = take(storage, SETTINGS, _wanted(), _clock())
    assert isinstance(mine, Claim)
    assert mine.beat()
    other = take(storage, SETTINGS, _wanted("second"), _clock(START + timedelta(seconds=59)))
    assert isinstance(other, ClaimState)
    assert (other.state, other.run_id, other.attempt, other.beats) == ("running", "first", 1, 1)
    assert (other.corpus, other.config, other.reason) == (CORPUS, CONFIG, "37 new labels")
    assert other.owner.pid == os.getpid()
    assert read_claims(storage, now=START) == [other]


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400)])
def test_a_living_owner_survives_any_jump_of_the_clock(storage: Storage, jump: timedelta) -> None:
    mine = take(storage, SETTINGS, _wanted(), _clock())
    assert isinstance(mine, Claim)
    mine.beat()
    other = take(storage, SETTINGS, _wanted("second"), _clock(START + jump, waiting=mine.beat))
    assert isinstance(other, ClaimState)
    assert mine.beat()
    mine.check()


@pytest.mark.parametrize("jump", [timedelta(seconds=61), timedelta(days=-400)])
def test_a_silent_owner_is_watched_and_then_taken_over(storage: Storage, jump: timedelta) -> None:
    mine = take(storage, SETTINGS, _wanted(), _clock())
    assert isinstance(mine, Claim)
    mine.beat()
    watched: list[int] = []
    other = take(storage, SETTINGS, _wanted("second"), _clock(START + jump, waiting=lambda: watched.append(1)))
    assert isinstance(other, Claim)
    assert watched == [1]
    # It is the same run, and the old owner learns of it.
    assert (other.attempt.run_id, other.number, other.started_at) == ("first", 2, START)
    assert not mine.beat()
    with pytest.raises(RewardloopError, match=r"Run first was taken over by process \d+ on .* at .*; it goes on there"):
        mine.check()
    assert [path.name for path in Path(storage.root, "claims").glob("*.beat-*")] == [
        f"{CORPUS}-{CONFIG}.beat-0001.json"
    ]


def test_a_failed_attempt_is_taken_over_at_once(storage: Storage) -> None:
    first = take(storage, SETTINGS, _wanted())
    assert isinstance(first, Claim)
    with pytest.raises(ValueError, match="a step"), first.hold(on_lost=lambda: None):
        raise ValueError("a step failed")
    assert read_claims(storage)[0].state == "ended"
    second = take(storage, SETTINGS, _wanted("second"), Clock(sleep=_never))
    assert isinstance(second, Claim)
    assert (second.attempt.run_id, second.number) == ("first", 2)


def test_a_killed_owner_is_taken_over_at_once(storage: Storage) -> None:
    code = (
        "import sys, time; from tests.unit.operation.test_claims import SETTINGS, Storage, _wanted, take\n"
        "claim = take(Storage.open(sys.argv[1]), SETTINGS, _wanted())\n"
        "with claim.hold(lambda: None): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, storage.root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        held = take(storage, SETTINGS, _wanted("second"), Clock(sleep=_never))
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
        while not is_gone(read_claims(storage)[0].owner):
            time.sleep(0.01)
        # A process that was not collected yet is gone all the same.
        taken = take(storage, SETTINGS, _wanted("second"), Clock(sleep=_never))
    assert isinstance(held, ClaimState)
    assert held.state == "running"
    assert isinstance(taken, Claim)
    assert (taken.attempt.run_id, taken.number) == ("first", 2)


def test_a_pid_that_is_used_again_is_another_process() -> None:
    owner = this_owner()
    assert not is_gone(owner)
    assert is_gone(owner.model_copy(update={"started": "1"}))
    assert not is_gone(owner.model_copy(update={"started": "1", "place": "another machine"}))


def test_what_is_finished_is_not_claimed_again(storage: Storage) -> None:
    mine = take(storage, SETTINGS, _wanted())
    assert isinstance(mine, Claim)
    with mine.hold(on_lost=lambda: None):
        assert mine.close(_outcome())
        assert not mine.close(_outcome("another"))
    for late in (START, START + timedelta(days=9)):
        state = take(storage, SETTINGS, _wanted("second"), Clock(now=lambda at=late: at, sleep=_never))  # type: ignore[misc]
        assert isinstance(state, ClaimState)
        assert (state.state, state.outcome) == ("finished", _outcome())


def test_again_is_one_more_run_and_joined_while_it_is_open(storage: Storage) -> None:
    first = take(storage, SETTINGS, _wanted())
    assert isinstance(first, Claim)
    # Nothing is repeated that was not finished once.
    assert isinstance(take(storage, SETTINGS, _wanted("x", again="a doubt")), ClaimState)
    first.close(_outcome())
    for number in (1, 2):
        again = take(storage, SETTINGS, _wanted(f"again {number}", again="a doubt"))
        assert isinstance(again, Claim)
        assert (again.stem, again.attempt.again) == (f"{CORPUS}-{CONFIG}.again-{number:04d}", "a doubt")
        joined = take(storage, SETTINGS, _wanted("x", again="another doubt"))
        assert isinstance(joined, ClaimState)
        assert (joined.run_id, joined.number, joined.again) == (f"again {number}", number, "a doubt")
        again.close(_outcome(f"again {number}"))
    newest = newest_claim(storage, SETTINGS, CORPUS, CONFIG)
    assert newest is not None
    assert newest.run_id == "again 2"
    assert len(read_claims(storage)) == 3


def test_an_owner_that_is_cut_off_is_stopped_once(storage: Storage) -> None:
    mine = take(storage, QUICK, _wanted())
    assert isinstance(mine, Claim)
    lost = threading.Event()
    with mine.hold(on_lost=lost.set):
        taken = take(storage, QUICK, _wanted("second"), Clock(now=lambda: START, sleep=lambda seconds: None))
        assert isinstance(taken, (Claim, ClaimState))
        if isinstance(taken, ClaimState):  # a heartbeat came in between: somebody else takes it in earnest
            path = f"claims/{CORPUS}-{CONFIG}.takeover-0002.json"
            storage.create(path, mine.attempt.model_copy(update={"owner": this_owner()}).model_dump_json().encode())
        assert lost.wait(5)
    assert read_claims(storage)[0].attempt == 2


def test_heartbeats_move(storage: Storage) -> None:
    mine = take(storage, QUICK, _wanted())
    assert isinstance(mine, Claim)
    with mine.hold(on_lost=lambda: None):
        deadline = time.monotonic() + 5
        while read_claims(storage)[0].beats < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert read_claims(storage)[0].beats >= 3


def test_a_store_without_conditional_creation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot create a file only if it is absent"):
        take(Storage.open(f"dir::file://{tmp_path}"), SETTINGS, _wanted())


def test_a_claim_that_was_changed_is_named(storage: Storage) -> None:
    take(storage, SETTINGS, _wanted())
    storage.write(f"claims/{CORPUS}-{CONFIG}.json", json.dumps({"status": "blessed"}).encode())
    with pytest.raises(BadInputError, match=rf"{CORPUS}-{CONFIG}.json: is not a Attempt of this version of rewardloop"):
        read_claims(storage)


def test_orphans_of_the_run_are_ended_and_no_others(tmp_path: Path) -> None:
    def start(folder: str) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"REWARDLOOP_RUN_DIR": str(tmp_path / folder)}
        command = ["sh", "-c", f"{sys.executable} -c 'import time; time.sleep(60)'; true"]
        return subprocess.Popen(command, env=environment, start_new_session=True)

    ours, others = start("a"), start("b")
    try:
        deadline = time.monotonic() + 5
        while end_orphans(tmp_path / "a") == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        ours.wait(5)
        assert end_orphans(tmp_path / "a") == 0
        assert others.poll() is None
    finally:
        end_orphans(tmp_path / "b")
        others.wait(5)
