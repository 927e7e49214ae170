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
    weight: float = 1.0
    """What its labels weigh for their age."""


class CorpusEvidence(Evidence):
    """The batches of this run."""

    digest: str
    window: str = "all"
    """all | last N days | decay N days, counted from the newest batch."""
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
    low: float | None = None
    high: float | None = None
    """Interval of ``alpha`` at 95%: bootstrap over what two people or more judged."""
    alpha_standardized: float | None
    """After standardizing each labeler's ratings; None without identities."""
    measurement: Literal["nominal", "ordinal", "interval"]
    labelers: int | None
    items: int
    limit: float | None = None
    """``preferences.min_agreement`` where it judges this line."""
    refused: bool = False
    """Below the limit, or not known where there is one."""


class LabelerLine(Evidence):
    """One labeler in one segment."""

    labeler: str
    """Pseudonym."""
    segment: str | None
    kind: str
    """human | model | signal | mixed."""
    votes: int
    """Pairs of which this labeler judged both answers."""
    agreement: Estimate | None
    """With the weighted vote of the others on the same pairs, ties one half; None where nobody else judged them."""
    reliability: float | None
    """Probability of being right about a decided pair; None where it was not estimated."""
    weight: float
    """What a vote counts; the segment's mean labeler has 1 before findings take votes away."""
    findings: list[str] = Field(default_factory=list)
    """What is wrong, in words."""
    controls: Estimate | None = None
    """Share right of the control items; None where the labeler had none."""
    alpha_with_people: Estimate | None = None
    """Of a model or program beside people: Krippendorff's alpha of its votes and people's common ones."""


class SegmentLine(Evidence):
    """The labels of one segment, and how far its consensus is that of other segments."""

    segment: str
    weight: float
    """What its votes count; 0: left out."""
    labelers: int | None
    labels: int
    alpha: float | None
    low: float | None
    high: float | None
    agreement: dict[str, Estimate] = Field(default_factory=dict)
    """Other segment -> share of the pairs judged in both on which the two prefer the same answer, ties one half."""


class DividedPair(Evidence):
    """Two answers about which people are divided; texts are clipped."""

    prompt: str
    response_a: str
    response_b: str
    votes_a: int
    """Labelers who prefer a."""
    votes_b: int
    ties: int
    p: float
    """Weighted share for a."""
    labelers: list[str]
    """Pseudonyms of those who judged it, some where they are many."""


class DividedPairs(Evidence):
    """For the labeling lead: what to discuss, most divided first."""

    criterion: str
    pairs: list[DividedPair]


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
    labelers: list[LabelerLine] = Field(default_factory=list)
    """Every labeler with findings, and those with the most votes."""
    labelers_total: int = 0
    """Lines there would be for all of them: one for each labeler and segment."""
    reliability: str = "not estimated"
    """How votes were weighted, or why they were not, in words."""
    segments: list[SegmentLine] = Field(default_factory=list)
    divided: list[DividedPair] = Field(default_factory=list)
