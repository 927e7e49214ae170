"""Who trains a corpus under a configuration: exactly one process at a time, and nobody twice.

In: the store, and what is to be trained. Out: a ``Claim``, held while its heartbeats are written and closed with the
outcome, or the ``ClaimState`` of whoever has it. Rights come from conditional creation alone (``claim_files`` lists the
files): who creates ``NAME.json`` owns the run, who creates the next ``NAME.takeover-....json`` owns it from then on.
A run keeps its id through all attempts, so that what a killed attempt finished is found and not done again.

The lease has ended when the owner's process is gone (asked on its own machine), when the attempt says that it ended, or
when its heartbeat is older than ``claims.lease_seconds``. Clocks jump, so the last is only a suspicion: the contender
then watches the beat counter for two heartbeats by the monotonic clock, and takes over if it does not move.

A run that was taken over from a living owner (cut off from the store, suspended) is stopped when it notices. Until then
both may work: steps write to folders of their own, registration looks for the version by its tags first, the history
takes a promotion only against the champion that was compared with, and the outcome is created by the first to finish.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rewardloop.config import ClaimSettings
from rewardloop.errors import RewardloopError
from rewardloop.operation.claim_files import (
    Attempt,
    Beat,
    ClaimOutcome,
    ClaimState,
    attempt_path,
    beat_path,
    claim_stems,
    find_file,
    outcome_path,
    read_claims,
    read_state,
    stem_of,
)
from rewardloop.operation.processes import end_owner, is_gone, this_owner
from rewardloop.storage import Storage

__all__ = ["Claim", "ClaimOutcome", "ClaimState", "Clock", "Wanted", "newest_claim", "read_claims", "take"]

_log = logging.getLogger(__name__)
_WATCHED_BEATS = 2


@dataclass(frozen=True)
class Clock:
    """The wall clock, which may jump, and waiting, which follows the monotonic one."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Wanted:
    """What is to be trained, and why; ``run_id`` is used where nobody has begun it."""

    corpus: str
    config: str
    run_id: str
    reason: str
    again: str | None = None
    """Why it is to be trained although it was: only then is a finished claim followed by another."""
    submitted: bool = False
    """The run will be at work on Kubeflow Pipelines, where it writes no heartbeats."""


@dataclass
class Claim:
    """The right to one run; ``lost_to`` names who took it over."""

    storage: Storage
    settings: ClaimSettings
    stem: str
    number: int
    """Of the attempt, from 1."""
    attempt: Attempt
    started_at: datetime
    clock: Clock = field(default_factory=Clock)
    lost_to: Attempt | None = None
    _counter: int = 0
    _ended: bool = False
    _writing: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def hold(self, on_lost: Callable[[], None]) -> Iterator[None]:
        """Write heartbeats until the block ends, then give the run free unless it was closed.

        Args:
            on_lost: called once, from the heartbeats' thread, when somebody took the run over.
        """
        over = threading.Event()
        thread = threading.Thread(target=self._keep_beating, args=(over, on_lost), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            # A store that does not answer must not keep a finished run waiting for long.
            thread.join(timeout=self.settings.heartbeat_seconds)
            if self.lost_to is None:
                self._say_anyhow(ended=True)

    def beat(self, *, ended: bool = False) -> bool:
        """Write one heartbeat; False when the run was taken over, then none is written."""
        self.lost_to = find_file(self.storage, Attempt, attempt_path(self.stem, self.number + 1))
        if self.lost_to is not None:
            return False
        with self._writing:
            if self._ended:
                return True
            self._ended = ended
            self._counter += 1
            beat = Beat(owner=self.attempt.owner.id, counter=self._counter, at=self.clock.now(), ended=ended)
            self.storage.write(beat_path(self.stem, self.number), _json(beat))
        return True

    def close(self, outcome: ClaimOutcome) -> bool:
        """Say what became of the run, for ever; False where that was said before, which stands."""
        return self.storage.create(outcome_path(self.stem), _json(outcome))

    def check(self) -> None:
        """Raise RewardloopError when the run was taken over."""
        if self.lost_to is not None:
            raise RewardloopError(
                f"Run {self.attempt.run_id} was taken over by {self.lost_to.owner} at "
                f"{self.lost_to.at.isoformat(timespec='seconds')}, since no heartbeat of this process had arrived for "
                f"{self.settings.lease_seconds:g} s; it goes on there and was stopped here"
            )

    def _keep_beating(self, over: threading.Event, on_lost: Callable[[], None]) -> None:
        while True:
            if not self._say_anyhow(ended=False):
                on_lost()
                return
            if over.wait(self.settings.heartbeat_seconds):
                return

    def _say_anyhow(self, *, ended: bool) -> bool:
        """A heartbeat that cannot be written must not end a training: the next one may arrive."""
        try:
            return self.beat(ended=ended)
        except (RewardloopError, OSError) as error:
            _log.warning("heartbeat of run %s: %s", self.attempt.run_id, error)
            return True


def newest_claim(
    storage: Storage, settings: ClaimSettings, corpus: str, config: str, clock: Clock | None = None
) -> ClaimState | None:
    """The latest claim of a corpus under a configuration, repetitions included; None when there is none."""
    base = stem_of(corpus, config)
    stems = [stem for stem in claim_stems(storage) if stem == base or stem.startswith(f"{base}.again-")]
    if not stems:
        return None
    now = (clock or Clock()).now()
    return read_state(storage, max(stems), now=now, lease_seconds=settings.lease_seconds)


def take(storage: Storage, settings: ClaimSettings, wanted: Wanted, clock: Clock | None = None) -> Claim | ClaimState:
    """Claim a run, or take over one whose owner is gone.

    Returns:
        the claim; or the state of the claim that stands in the way: finished (and nothing was wanted again), or held.

    Raises:
        BadInputError: the store cannot create a file only if it is absent, or cannot be used.
    """
    clock = clock or Clock()
    while True:
        state = newest_claim(storage, settings, wanted.corpus, wanted.config, clock)
        if state is None:
            made = _create(storage, settings, wanted, stem_of(wanted.corpus, wanted.config), clock)
        elif state.state == "finished":
            if wanted.again is None:
                return state
            made = _create(storage, settings, wanted, stem_of(wanted.corpus, wanted.config, state.number + 1), clock)
        elif state.state == "running":
            return state
        else:
            if state.state == "silent" and not is_gone(state.owner):
                seconds = _WATCHED_BEATS * settings.heartbeat_seconds
                _log.warning("run %s: no heartbeat of %s; watched for %g s", state.run_id, state.owner, seconds)
                clock.sleep(seconds)
                after = read_state(storage, state.stem, now=clock.now(), lease_seconds=settings.lease_seconds)
                if (after.attempt, after.beats, after.outcome) != (state.attempt, state.beats, state.outcome):
                    return after
            made = _take_over(storage, settings, state, wanted, clock)
        if made is not None:
            return made
        # Somebody else was faster; what he made is read now.


def _create(storage: Storage, settings: ClaimSettings, wanted: Wanted, stem: str, clock: Clock) -> Claim | None:
    attempt = Attempt(
        corpus=wanted.corpus,
        config=wanted.config,
        run_id=wanted.run_id,
        owner=this_owner(),
        at=clock.now(),
        reason=wanted.reason,
        again=wanted.again,
        submitted=wanted.submitted,
    )
    if not storage.create(attempt_path(stem, 1), _json(attempt)):
        return None
    return Claim(storage, settings, stem, 1, attempt, attempt.at, clock)


def _take_over(
    storage: Storage, settings: ClaimSettings, state: ClaimState, wanted: Wanted, clock: Clock
) -> Claim | None:
    attempt = Attempt(
        corpus=state.corpus,
        config=state.config,
        run_id=state.run_id,
        owner=this_owner(),
        at=clock.now(),
        reason=state.reason,
        again=wanted.again or state.again,
        submitted=wanted.submitted,
    )
    number = state.attempt + 1
    if not storage.create(attempt_path(state.stem, number), _json(attempt)):
        return None
    end_owner(state.owner)
    if storage.exists(outcome_path(state.stem)):
        return None  # the old owner finished after all
    return Claim(storage, settings, state.stem, number, attempt, state.started_at, clock)


def _json(content: Attempt | Beat | ClaimOutcome) -> bytes:
    return (content.model_dump_json(indent=1) + "\n").encode()
