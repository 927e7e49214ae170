"""What a drift check found, as it is kept: ``drift/<version>/<UTC time>.json`` in the feedback store.

In: measurements. Out: ``DriftReport``, created only if absent and never changed; triggers, the status and people read
it. Nothing here needs the texts of answers.
"""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, ValidationError

from rewardloop.errors import BadInputError
from rewardloop.evidence import Estimate
from rewardloop.evidence.base import Evidence
from rewardloop.storage import Storage

_FOLDER = "drift"
_TIME = "%Y%m%dT%H%M%S.%fZ"  # sorts as text


class DistributionLine(Evidence):
    """One distribution, then (in the version's reference) and now (in the logged decisions)."""

    what: str
    """score | prompt length | response length | decision | segment."""
    segment: str | None = None
    """None: all answers."""
    reference: int
    """Answers of the reference that have it."""
    decisions: int
    """Logged decisions that have it."""
    psi: float | None = None
    """Population stability index; None where it was not compared."""
    test: str | None = None
    """The two-sample test."""
    p_value: float | None = None
    """Of that test alone."""
    corrected: float | None = None
    """After Holm's correction over all tests of the report."""
    drifted: bool = False
    note: str = ""
    """Why it was not compared."""
    bins: list[tuple[str, float, float]] = Field(default_factory=list)
    """(bin, share of the reference, share of the decisions)."""


class AcceptedLine(Evidence):
    """The share of accepted answers; None without decisions."""

    segment: str | None = None
    then: Estimate | None
    now: Estimate | None


class DisagreementLine(Evidence):
    """What labels that came later say of decisions; one answer per document."""

    segment: str | None = None
    labeled: int
    """Answers that were accepted or blocked, and labeled since."""
    disagreement: Estimate | None
    """Share of them whose label contradicts the decision."""
    unacceptable_among_accepted: Estimate | None
    acceptable_among_blocked: Estimate | None
    drifted: bool = False


class LateLabels(Evidence):
    """Labels that arrived after their answers had been decided on."""

    acceptability: str
    """Where verdicts come from, in words."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Why a labeled decision does not count -> answers."""
    lines: list[DisagreementLine] = Field(default_factory=list)


class DriftReport(Evidence):
    """One check of one version."""

    format: Literal[1] = 1
    model: str
    version: str
    at: datetime
    since: datetime
    """Decisions from here on were compared."""
    reference: int
    """Answers of the version's reference."""
    decisions: int
    unscored: int
    """Of them, those that could not be scored."""
    needed: int
    """``drift.min_decisions``."""
    max_psi: float
    level: float
    drifted: bool
    reasons: list[str]
    """What drifted; why nothing can be said where there are too few decisions."""
    distributions: list[DistributionLine]
    accepted: list[AcceptedLine]
    late: LateLabels
    broken: list[str] = Field(default_factory=list)
    """Lines of the log that are not decisions: place and cause."""

    @property
    def enough(self) -> bool:
        """Whether there were enough decisions to say anything."""
        return self.decisions >= self.needed


def keep_report(storage: Storage, report: DriftReport) -> str:
    """Put the report into the store; returns its name there."""
    name = f"{_FOLDER}/{report.version}/{report.at.astimezone(UTC).strftime(_TIME)}.json"
    if not storage.create(name, (report.model_dump_json(indent=1) + "\n").encode()):
        raise BadInputError(f"{storage.path(name)}: is there already; check again")
    return name


def latest_drift(storage: Storage, version: str | None = None) -> DriftReport | None:
    """The newest report, of one version or of any; None where nobody has looked yet.

    Raises:
        BadInputError: the file is not a report.
    """
    versions = storage.list(_FOLDER) if version is None else [version]
    names = [(name, f"{_FOLDER}/{one}/{name}") for one in versions for name in storage.list(f"{_FOLDER}/{one}")]
    if not names:
        return None
    _, place = max(names)
    try:
        return DriftReport.model_validate_json(storage.read(place))
    except ValidationError as error:
        raise BadInputError(f"{storage.path(place)}: is not a drift report of this version: {error}") from error
