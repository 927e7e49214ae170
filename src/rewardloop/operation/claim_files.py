"""The files of a claim, and what they say together.

In: the store's folder ``claims/``. Out: a ``ClaimState`` per claim. Every file is created once and never changed, but
for the heartbeats, which only their own attempt writes. ``NAME`` is ``<corpus>-<config>``, or
``<corpus>-<config>.again-0001`` and so on where somebody wanted the same trained once more.

    NAME.json                  the first attempt: who trains this, since when, under which run id
    NAME.takeover-0002.json    the next attempt at the same run, by whoever took it over; then -0003, ...
    NAME.beat-0001.json        heartbeat of an attempt; ``ended`` says that it failed and the next may begin at once
    NAME.outcome.json          what became of the run; after it nobody trains this again
"""

import re
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rewardloop.config import ClaimSettings
from rewardloop.errors import BadInputError
from rewardloop.operation.processes import Owner, is_gone
from rewardloop.storage import Storage

FOLDER = "claims"
_STEM = re.compile(r"(?P<corpus>[0-9a-f]+)-(?P<config>[0-9a-f]+)(?:\.again-(?P<again>\d{4}))?")

State = Literal["running", "silent", "ended", "finished"]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_F = TypeVar("_F", bound=_File)


class Attempt(_File):
    """One owner's attempt at a run; all attempts of a run share its id and the reasons."""

    corpus: str
    config: str
    run_id: str
    owner: Owner
    at: datetime
    reason: str
    """Why the run was started."""
    again: str | None = None
    """Why the same is trained once more."""
    submitted: bool = False
    """The run is at work on Kubeflow Pipelines: whoever submits it holds its claim only while doing so."""


class Beat(_File):
    """The latest sign of life of one attempt."""

    owner: str
    """``Owner.id``."""
    counter: int
    at: datetime
    ended: bool = False
    """The attempt failed; its run may be taken over at once."""


class ClaimOutcome(_File):
    """What became of a run."""

    status: Literal["blessed", "not blessed"]
    finished_at: datetime
    report: str
    """Path on the machine of the run."""
    run_id: str
    version: str | None = None
    """The registered version."""


class ClaimState(_File):
    """One claim as its files tell it."""

    stem: str
    """Names of the claim's files begin with it."""
    corpus: str
    config: str
    number: int
    """0 for the first training of this corpus under this configuration, n for the nth repetition on purpose."""
    run_id: str
    reason: str
    again: str | None
    started_at: datetime
    """When the first attempt began."""
    attempt: int
    owner: Owner
    """Of the latest attempt, as everything below."""
    at: datetime
    last_beat: datetime
    """The attempt's own beginning before its first heartbeat."""
    beats: int
    submitted: bool
    state: State
    """``silent``: was cut short, since its process is gone or was not heard of for longer than the lease; ``ended``:
    the attempt failed and said so."""
    outcome: ClaimOutcome | None = None

    @property
    def is_submitted(self) -> bool:
        """Whether its run may be at work on a cluster, where it writes no heartbeats."""
        return self.submitted and self.state in ("silent", "ended")


def stem_of(corpus: str, config: str, number: int = 0) -> str:
    """Name of a claim's files without their endings."""
    return f"{corpus}-{config}" + (f".again-{number:04d}" if number else "")


def attempt_path(stem: str, attempt: int) -> str:
    """Path of the file by which the attempt (from 1) was claimed."""
    return f"{FOLDER}/{stem}" + (f".takeover-{attempt:04d}" if attempt > 1 else "") + ".json"


def beat_path(stem: str, attempt: int) -> str:
    """Path of the attempt's heartbeat."""
    return f"{FOLDER}/{stem}.beat-{attempt:04d}.json"


def outcome_path(stem: str) -> str:
    """Path of the claim's outcome."""
    return f"{FOLDER}/{stem}.outcome.json"


def read_state(storage: Storage, stem: str, *, now: datetime, lease_seconds: float) -> ClaimState:
    """One claim that exists.

    Raises:
        BadInputError: one of its files is not of this version of rewardloop, or cannot be read.
    """
    return _state(storage, stem, set(storage.list(FOLDER)), now, lease_seconds)


def claim_stems(storage: Storage) -> list[str]:
    """All claims, by name."""
    names = (name.removesuffix(".json") for name in storage.list(FOLDER) if name.endswith(".json"))
    return sorted(name for name in names if _STEM.fullmatch(name))


def read_claims(
    storage: Storage, *, now: datetime | None = None, lease_seconds: float = ClaimSettings().lease_seconds
) -> list[ClaimState]:
    """Every claim of the store, oldest first.

    Args:
        storage: the feedback store's.
        now: moment by which heartbeats are judged; the present one where left out.
        lease_seconds: as in the section ``claims``.

    Raises:
        BadInputError: a file is not of this version of rewardloop, or cannot be read.
    """
    names = set(storage.list(FOLDER))
    moment = now or datetime.now().astimezone()
    states = [_state(storage, stem, names, moment, lease_seconds) for stem in claim_stems(storage)]
    return sorted(states, key=lambda state: (state.started_at, state.stem))


def find_file(storage: Storage, model: type[_F], path: str) -> _F | None:
    """The file, or None when it is absent."""
    try:
        return model.model_validate_json(storage.read(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        place = storage.path(path)
        raise BadInputError(f"{place}: is not a {model.__name__} of this version of rewardloop: {error}") from error
    except OSError as error:
        raise BadInputError(
            f"{storage.path(path)}: cannot be read: {error.strerror or error}; check store.url"
        ) from error


def _state(storage: Storage, stem: str, names: set[str], now: datetime, lease_seconds: float) -> ClaimState:
    number = 1
    while attempt_path(stem, number + 1).rpartition("/")[2] in names:
        number += 1
    first = _there(storage, attempt_path(stem, 1))
    latest = first if number == 1 else _there(storage, attempt_path(stem, number))
    beat = find_file(storage, Beat, beat_path(stem, number))
    outcome = find_file(storage, ClaimOutcome, outcome_path(stem))
    last = beat.at if beat else latest.at
    matched = _STEM.fullmatch(stem)
    return ClaimState(
        stem=stem,
        corpus=first.corpus,
        config=first.config,
        number=int(matched["again"] or 0) if matched else 0,
        run_id=first.run_id,
        reason=first.reason,
        again=latest.again,
        started_at=first.at,
        attempt=number,
        owner=latest.owner,
        at=latest.at,
        last_beat=last,
        beats=beat.counter if beat else 0,
        submitted=latest.submitted,
        state=_judged(latest.owner, beat, outcome, last, now, lease_seconds),
        outcome=outcome,
    )


def _judged(
    owner: Owner, beat: Beat | None, outcome: ClaimOutcome | None, last: datetime, now: datetime, lease_seconds: float
) -> State:
    if outcome:
        return "finished"
    if beat and beat.ended:
        return "ended"
    # Clocks of two machines differ a little; a heartbeat from far ahead says only that one of them is wrong.
    late = abs(now - last) > timedelta(seconds=lease_seconds)
    return "silent" if late or is_gone(owner) else "running"


def _there(storage: Storage, path: str) -> Attempt:
    found = find_file(storage, Attempt, path)
    if found is None:
        raise BadInputError(f"{storage.path(path)}: is missing; restore it from a copy")
    return found
