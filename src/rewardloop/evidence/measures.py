"""Evidence of what is measured on a candidate besides its accuracy: robustness, leaks, and what length is worth.

In: nothing, these are the models. Out: what ``evaluate_reward_model`` writes, and what the gate and the report read.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from rewardloop.evidence.base import Estimate, Evidence

_CHARACTERS = 300

Excerpt = Annotated[
    str, AfterValidator(lambda text: text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…")
]
"""A text to show, cut where it is long."""


class RobustnessLine(Evidence):
    """What one kind of perturbation does to the scores of test answers."""

    kind: str
    items: int
    """Answers that the perturbation changes and whose score is known before and after."""
    unchanged: int
    """Left out: the perturbation leaves the text as it is."""
    unscored: int
    """Left out: too long to be scored, before or after."""
    change: Estimate | None
    """Mean of score after minus score before, in spreads of the score; None with fewer than two documents."""
    blocked: int | None
    """Of ``items``, those that are blocked before; None without a threshold."""
    newly_accepted: Estimate | None
    """Share of the blocked that are accepted after; None without a threshold, and where nothing is blocked."""
    examples: list[Excerpt] = Field(default_factory=list)
    """Texts, before the perturbation, of answers that become accepted."""


class OverlapLine(Evidence):
    """What two splits have in common; both counts are 0 where nothing leaks."""

    first: str
    second: str
    texts: int
    """Distinct normalized texts (see ``LeakEvidence.compared``) that both splits have."""
    items: int
    """Answers of the second split that these texts belong to."""
    documents: int
    """Documents that have answers in both splits."""
    examples: list[Excerpt] = Field(default_factory=list)


class NearestExample(Evidence):
    """A text of the test split beside the training text that is most like it."""

    test: Excerpt
    train: Excerpt
    similarity: float


class NearestEvidence(Evidence):
    """How much texts of the test split are like the most similar training text: cosine from 0 to 1."""

    texts: int
    """Test texts that were compared: a seeded sample."""
    of: int
    """Distinct texts that the test split has."""
    quantiles: list[tuple[float, float]]
    """(quantile, similarity)."""
    near_duplicate: float
    """From this similarity on, a text counts as a near duplicate."""
    near_duplicates: Estimate
    """Share of near duplicates."""
    examples: list[NearestExample]
    """The most similar ones first."""


class LeakEvidence(Evidence):
    """Whether held-out texts were trained on, or are in two held-out splits."""

    compared: str
    """What a text is: prompts, or responses where there is no prompt."""
    duplicates_with_train: int | None
    """Distinct held-out texts that are in the training split too; None without training items."""
    documents_with_train: int | None
    """Held-out documents that are in the training split too; None without training items."""
    duplicates_held_out: int
    """Distinct texts that are in more than one held-out split."""
    documents_held_out: int
    """Documents that are in more than one held-out split."""
    overlaps: list[OverlapLine]
    """One line per two splits that have items."""
    nearest: NearestEvidence | None
    """None without training or test items."""


class LengthEvidence(Evidence):
    """What the length of answers explains."""

    controlled: Estimate | None
    """Length-controlled accuracy; None where the longer answer always wins, or never."""
    controlled_over_length_only: Estimate | None
    """Its advantage over the length-only scorer, paired; None likewise."""
    correlation: Estimate | None
    """Spearman's, of score and length of test answers; None where either does not vary."""
    words: str
    """What to make of it."""
