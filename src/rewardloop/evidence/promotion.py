"""Evidence of the verdict on a candidate and of what the registry holds after it."""

from pydantic import Field

from rewardloop.evidence.base import Evidence
from rewardloop.evidence.comparison import SliceVerdict


class Check(Evidence):
    """One condition of the gate."""

    name: str
    passed: bool
    value: float | None
    low: float | None = None
    high: float | None = None
    limit: float | None
    rule: str
    """The condition in words, e.g. "lower end of the interval >= limit"."""
    reason: str


NO_CHAMPION = "no champion: first version"
"""What a blessing compares with before there is a champion."""


class PolicyVerdict(Evidence):
    """The gate's word on a policy; a reward model can be blessed without it."""

    blessed: bool
    candidate: str
    """Digest of the policy's files."""
    checks: list[Check]
    reasons: list[str]


class Blessing(Evidence):
    """The verdict that ``register_models`` re-reads."""

    blessed: bool
    candidate: str
    """Digest of the candidate's files."""
    champion: str
    """Registered version compared with, or "no champion: first version"."""
    corpus_digest: str
    checks: list[Check]
    reasons: list[str]
    slices: list[SliceVerdict] = Field(default_factory=list)
    """Every slice of the comparison with the champion, those that are too small to be judged too."""
    notes: list[str] = Field(default_factory=list)
    """What the labeling lead should know; it decides nothing."""
    policy: PolicyVerdict | None = None
    """None: no policy was made."""


class PolicyRegistration(Evidence):
    """The registered policy."""

    name: str
    version: str
    reward_model: str
    """``models:/NAME/VERSION`` that it was aligned to."""
    previous: str | None
    manifest_digest: str
    waiting: bool = False
    """Registered as a candidate that a person has to approve."""


class RegistrationEvidence(Evidence):
    """What the registry holds now."""

    name: str
    version: str
    champion: bool
    waiting: bool = False
    """Blessed, and a candidate until a person approves it (``promotion.mode: approval``)."""
    previous: str | None
    threshold: float | None
    history_sequence: int | None
    """Of the record that made it the champion; None where none did."""
    manifest_digest: str
    parity_difference: float
    """Largest difference between fixture scores and scores after reloading from the registry."""
    policy: PolicyRegistration | None = None
