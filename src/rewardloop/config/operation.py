"""Sections on running by itself: who may train, when a run starts, who is told, and what is kept.

None of these can change a model, so they are no part of the digest of a configuration.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rewardloop.config.base import Positive, Section

Seconds = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]

Event = Literal["blessed", "refused", "failed", "drift", "approval"]


CRON_FIELDS = "second minute hour day-of-month month day-of-week"


def wrong_fields(cron: str) -> str | None:
    """What is wrong with the number of fields of a cron expression; None where they are six."""
    found, wanted = len(cron.split()), len(CRON_FIELDS.split())
    if found == wanted:
        return None
    mend = f'; put a 0 in front: "0 {cron.strip()}"' if found == wanted - 1 else ""
    return f"{cron!r} has {found} fields, Kubeflow Pipelines takes six: {CRON_FIELDS}{mend}"


class ClaimSettings(Section):
    """How long a run may be silent before another process takes it over."""

    lease_seconds: Seconds = 180
    heartbeat_seconds: Seconds = 20

    @model_validator(mode="after")
    def _beats_in_time(self) -> Self:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            raise ValueError(
                f"lease_seconds = {self.lease_seconds:g} is less than three times heartbeat_seconds = "
                f"{self.heartbeat_seconds:g}: one late heartbeat would lose the run"
            )
        return self


class TriggerSettings(Section):
    """When ``rewardloop trigger`` starts a run; every condition that is set must hold."""

    min_new_labels: Positive = 1
    """Labels that no run of this configuration has read yet."""
    max_champion_days: Annotated[float, Field(gt=0)] | None = None
    """A champion older than this is retrained on any new label, however few; None: age starts nothing."""
    min_hours_between_runs: NonNegative = 0
    only_on_drift: bool = False
    """Start only where the latest drift report says so."""
    inbox: str | None = None
    """Drop folder (local path or fsspec URL); complete files in it are ingested, bad ones moved to rejected/."""
    stable_seconds: NonNegative = 5
    """A file in the inbox is complete once its size and time have not changed for so long."""
    poll_seconds: Seconds = 30
    """How often ``--watch`` looks at places that send no file events, and at conditions that time alone fulfils."""
    retry_failed_seconds: Seconds = 600
    """``--watch`` tries a corpus whose run failed again after so long, and after each further failure twice as long."""


class WebhookSettings(Section):
    """``rewardloop trigger --listen``: who may start a run over HTTP. Secrets come from the environment."""

    tolerance_seconds: Positive = 300
    """A signed request older (or newer) than this is refused."""
    max_body_bytes: Positive = 1_000_000
    timeout_seconds: Seconds = 10
    """A request whose body has not come whole by then is given up (408)."""


class NotificationSettings(Section):
    """Who is told of what. Addresses are secrets: they come from ``REWARDLOOP_NOTIFY_URLS``, separated by spaces."""

    events: tuple[Event, ...] = ("blessed", "refused", "failed", "drift", "approval")
    timeout_seconds: Seconds = 10


class HousekeepingSettings(Section):
    """What ``rewardloop gc`` keeps."""

    keep_runs: Positive = 20
    """Newest runs whose folders and steps' outputs are kept."""
    keep_versions: Positive = 10
    """Newest versions that are kept; those with an alias, or in a policy's tags, always are."""
    max_kept_bytes: int = Field(default=10 << 30, ge=0)
    """Most bytes of kept results of data steps (the store's `kept/`); what was used longest ago goes first."""


class ScheduleSettings(Section):
    """The recurring run on a Kubeflow Pipelines cluster."""

    cron: str = "0 0 3 * * *"
    """Six fields, seconds first: second minute hour day-of-month month day-of-week; UTC."""
    experiment: str = "rewardloop"
    """Kubeflow Pipelines' experiment that runs are shown under."""
    enabled: bool = True

    @field_validator("cron")
    @classmethod
    def _six_fields(cls, cron: str) -> str:
        # What each field may hold is checked by operation.schedule: the library for it takes time to import.
        if problem := wrong_fields(cron):
            raise ValueError(problem)
        return cron
