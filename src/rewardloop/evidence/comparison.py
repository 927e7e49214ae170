"""Evidence of the comparison with the champion on parts of the test split, and of what can be said of them.

In: nothing. Out: models. The measured ones hold no limit, so that a gate can judge them again under other limits.
"""

from typing import Literal

from rewardloop.evidence.base import Estimate, Evidence


class SliceComparison(Evidence):
    """Candidate minus champion on one slice, paired; measured, not judged."""

    name: str
    difference: Estimate
    standard_error: float
    """Of the difference, over resampled documents."""
    documents: int


class SliceVerdict(Evidence):
    """One slice against its margin."""

    name: str
    difference: Estimate
    margin: float
    documents: int
    needed: int | None
    """Documents at which the interval would reach no further than the margin; None: could not be measured."""
    gated: bool
    """False: too few documents for the margin, so the slice is reported and decides nothing."""
    p_value: float | None
    """One-sided, of "not worse than the champion", after Holm's correction over the gated slices."""
    passed: bool
    """True for slices that are not gated."""
    reason: str


class PooledComparison(Evidence):
    """The comparison on all test pairs: decided or not, and how many documents would decide it."""

    difference: Estimate
    documents: int
    margin: float
    verdict: Literal["not worse", "worse", "undecided"]
    needed: int
    """Documents at which a candidate whose true difference is ``truth`` is found not worse, with probability
    ``power``."""
    truth: float
    power: float
    reason: str
