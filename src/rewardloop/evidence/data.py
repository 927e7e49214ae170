"""Evidence of the steps that bring feedback together, check it and pair it."""

from typing import Literal

from pydantic import Field

from rewardloop.evidence.alignment import HumanComparison
from rewardloop.evidence.base import Estimate, Evidence


class BatchLine(Evidence):
    """One ingested batch as the corpus sees it."""

    digest: str
    source: str
    importer: str
    ingested_at: str
    groups: int
    labels: int
    labelers: int | None
    """Distinct labelers; None where the source has no identities."""
    accepted_by: str | None = None
    """Who accepted the batch although validation had refused it."""


class CorpusEvidence(Evidence):
    """The batches of this run."""

    digest: str
    batches: list[BatchLine]
    left_out: dict[str, str] = Field(default_factory=dict)
    """Batch digest -> why it is not part of the corpus."""
    groups: int
    labels: int
    comparisons: list[HumanComparison] = Field(default_factory=list)
    """What people said of earlier policies' answers; one entry per policy."""


class ExpectationLine(Evidence):
    """One Great Expectations result for one batch."""

    batch: str
    expectation: str
    """What is expected, in words."""
    level: Literal["row", "batch"]
    passed: bool
    checked: int
    unexpected: int
    observed: str | None = None
    examples: list[str] = Field(default_factory=list)


class BatchVerdict(Evidence):
    """What validation decided about one batch."""

    digest: str
    groups: int
    quarantined: int
    limit: float
    refused: bool
    accepted_by: str | None = None
    reasons: list[str] = Field(default_factory=list)


class ValidationEvidence(Evidence):
    """rows in = rows kept + rows quarantined."""

    groups_in: int
    groups_kept: int
    quarantined: dict[str, int]
    """Reason -> rows."""
    batches: list[BatchVerdict]
    expectations: list[ExpectationLine]


class AgreementLine(Evidence):
    """Krippendorff's alpha of one criterion in one segment; None where it cannot be computed."""

    criterion: str
    segment: str
    alpha: float | None
    alpha_standardized: float | None
    """After standardizing each labeler's ratings; None without identities."""
    measurement: Literal["nominal", "ordinal", "interval"]
    labelers: int | None
    items: int


class SplitLine(Evidence):
    """Sizes of one split."""

    split: str
    groups: int
    items: int
    documents: int
    pairs: int
    ties: int
    acceptable: int
    unacceptable: int


class PreferenceEvidence(Evidence):
    """groups in = groups used + groups left out; single texts are grouped, so ``groups_built`` may differ."""

    criterion: str
    groups_in: int
    groups_used: int
    groups_built: int
    left_out: dict[str, int]
    """Reason -> groups."""
    splits: list[SplitLine]
    agreement: list[AgreementLine]
    acceptability: str
    """Where acceptability comes from, in words."""
    one_labeler: Estimate | None
    """Accuracy of one labeler against the others on the test pairs: a reference, not a ceiling."""
