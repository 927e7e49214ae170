"""What ``rewardloop status`` says, as a model: ``--json`` prints it, ``status_table`` shows it to people.

In: nothing. Out: ``StatusReport``.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PendingLabels(_Part):
    """Feedback that no finished run of this configuration has read."""

    batches: int
    labels: int
    needed: int
    """``trigger.min_new_labels``."""
    oldest_at: datetime | None


class ClaimLine(_Part):
    """Who trains, or trained, which corpus."""

    corpus: str
    config: str
    run_id: str
    owner: str
    state: str
    at: datetime
    last_beat: datetime
    reason: str
    outcome: str | None


class RunLine(_Part):
    """A run of this machine."""

    run_id: str
    status: str
    started_at: str
    seconds: float | None
    reason: str
    report: str | None


class VersionLine(_Part):
    """A registered version."""

    model: str
    version: str
    aliases: list[str]
    threshold: float | None
    blessed: bool
    accuracy: float | None
    corpus: str | None
    waiting: bool
    """A person has to approve it."""
    forced: bool
    """It was made the champion in spite of the gate."""
    rolled_back: int | None
    """Sequence of the rollback that took it off."""
    reward_model_rolled_back: int | None
    """Sequence of the rollback from the reward model that this policy was aligned to."""


class ChampionLine(_Part):
    """Who is champion, since when and by whom."""

    model: str
    version: str
    previous: str | None
    threshold: float | None
    since: str
    who: str
    why: str
    action: Literal["promote", "rollback"]
    forced: bool


class DriftLine(_Part):
    """The newest drift report."""

    version: str
    at: datetime
    drifted: bool
    reasons: list[str]


class StatusReport(_Part):
    """Everything at once."""

    organization: str
    at: datetime
    pending: PendingLabels
    claims: list[ClaimLine]
    runs: list[RunLine]
    champions: list[ChampionLine]
    versions: list[VersionLine]
    next_start: datetime | None
    """By the section ``schedule``, in UTC; None: it is off. Whether it was deployed is known to the cluster alone."""
    drift: DriftLine | None
    problems: list[str]
    """What could not be read."""
