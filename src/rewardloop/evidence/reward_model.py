"""Evidence of how a reward model was trained and what it is worth."""

from pydantic import Field

from rewardloop.evidence.base import Estimate, Evidence
from rewardloop.evidence.comparison import SliceComparison
from rewardloop.evidence.measures import LeakEvidence, LengthEvidence, RobustnessLine


class CurvePoint(Evidence):
    """Training at one optimizer step."""

    step: int
    loss: float
    accuracy: float
    margin: float
    """Mean of better minus worse score over the decided pairs."""
    learning_rate: float


class ValidationPoint(Evidence):
    """The validation split at one optimizer step."""

    step: int
    loss: float
    accuracy: float
    margin: float


class BeforeAfter(Evidence):
    """Accuracy of the champion and of what it became, on the same pairs."""

    pairs: int
    before: float
    after: float


class WarmStartEvidence(Evidence):
    """What a retrain made of the champion."""

    champion: str
    used: bool
    reason: str
    """Why the base was trained on everything instead; empty when the warm start was kept."""
    new_groups: int = 0
    replayed_groups: int = 0
    validation: BeforeAfter | None = None
    old_validation: BeforeAfter | None = None
    """On answers that the champion's corpus had too: is anything forgotten?"""
    old_test: BeforeAfter | None = None
    """The same on the test split; decides nothing."""
    seconds: float = 0.0
    """Of the warm-started training, also when it was not kept."""


class TrainingEvidence(Evidence):
    """How the candidate was trained."""

    base: str
    method: str
    parameters: int
    trained_parameters: int
    groups: int
    responses: int
    pairs: int
    steps: int
    best_step: int
    stopped_early: bool
    resumed_from_step: int | None
    seconds: float
    tokens: int
    """Without padding; a shared prompt counts once."""
    tokens_per_second: float
    padding_share: float
    truncated_prompts: int
    dropped_responses: int
    precision: str
    device: str
    processes: int
    reading: str
    """How groups are put to the model: packed, masked or padded."""
    reading_reason: str
    """Why a base is trained padded; empty otherwise."""
    frozen_layers_kept: int
    """Layers whose results were computed once and kept."""
    utilization: float
    """Useful floating-point operations per second over the hardware's peak."""
    peak_flops: float
    peak_flops_source: str
    peak_memory_bytes: int
    seed: int
    curve: list[CurvePoint]
    validation: list[ValidationPoint]
    held_out: dict[str, BeforeAfter] = Field(default_factory=dict)
    """Of a training that began with a reward model: validation, old_validation, old_test."""
    warm_start: WarmStartEvidence | None = None
    """None: there was no champion, or warm starts are switched off."""


class ReliabilityBin(Evidence):
    """Predicted against observed preference in one bin."""

    predicted: float
    observed: float
    pairs: int


class SliceLine(Evidence):
    """Accuracy on a part of the test pairs."""

    name: str
    accuracy: Estimate
    documents: int
    """That its pairs come from."""


class CalibrationSlice(Evidence):
    """How sure the model is on a part of the test pairs, against how often people agree with it there."""

    name: str
    predicted: float
    """Mean probability that the model gives the answer it prefers."""
    excess: Estimate
    """``predicted`` minus the mean share of labelers who prefer that answer: above 0 it is too sure, below 0 it
    doubts where people agree."""
    documents: int
    """That its pairs come from."""


class ReviewEvidence(Evidence):
    """The block threshold on the public score scale, and how much lies between it and the accept threshold."""

    certified: bool
    block_threshold: float | None
    """A score below it is blocked. Never above the accept threshold; equal to it, only unscored answers are asked
    about."""
    alpha_blocked: float
    delta: float
    """Of this promise alone: it and that of the accept threshold hold together with at least 1 - 2 delta."""
    calibration_blocked: int
    calibration_acceptable: int
    """Among the blocked ones."""
    p_value: float | None
    items_needed: int | None = None
    """Set when not certified: about how many calibration items would be needed."""
    reason: str
    acceptable_among_blocked: Estimate | None = None
    """P(acceptable | blocked) on the test split: what is bounded by ``alpha_blocked``."""
    review_share: Estimate | None = None
    """Share of test items that go to a person: between both thresholds, or without a score."""


class ThresholdEvidence(Evidence):
    """The accept/block threshold on the public score scale, and what it does on the test split."""

    certified: bool
    threshold: float | None
    alpha: float
    delta: float
    acceptability: str
    calibration_items: int
    calibration_accepted: int
    calibration_unacceptable: int
    p_value: float | None
    items_needed: int | None = None
    """Set when not certified: about how many calibration items would be needed."""
    reason: str
    unacceptable_share: float
    """Share of unacceptable items in the calibration split: what a filter that accepts everything would show."""
    unacceptable_among_accepted: Estimate | None = None
    false_accept_rate: Estimate | None = None
    false_block_rate: Estimate | None = None
    accepted_share: Estimate | None = None
    curve: list[tuple[float, float, float]] = Field(default_factory=list)
    """(threshold, accepted share, unacceptable among accepted) on the calibration split."""
    review: ReviewEvidence | None = None
    """None: no three-way decision is configured. With one, the rates above count answers for a person as blocked."""


class ChampionComparison(Evidence):
    """Candidate minus champion on the same items, paired."""

    version: str
    accuracy: Estimate
    difference: Estimate
    documents: int
    """That the test pairs come from."""
    golden_difference: Estimate | None
    golden_documents: int | None = None
    """That the golden pairs come from."""
    golden_use: int | None = None
    """How often the golden set was looked at, this time included: each look has a stricter interval."""
    slices: list[SliceComparison] = Field(default_factory=list)
    flip_rate: float | None
    """Share of test answers whose accept/block changes; None where either version has no threshold."""
    newly_blocked: list[str] = Field(default_factory=list)
    newly_accepted: list[str] = Field(default_factory=list)


class ScoredExample(Evidence):
    """A held-out answer to look at."""

    prompt: str
    response: str
    score: float
    label: str


class EvaluationEvidence(Evidence):
    """The candidate on held-out items it never saw."""

    pair_rule: str
    """Which pairs count, in words."""
    accuracy: Estimate
    golden_accuracy: Estimate | None
    bag_of_words: Estimate
    length_only: Estimate
    over_bag_of_words: Estimate
    over_length_only: Estimate
    one_labeler: Estimate | None
    length: LengthEvidence
    robustness: list[RobustnessLine] = Field(default_factory=list)
    """Empty: not measured."""
    leaks: LeakEvidence | None = None
    temperature: float
    tie_band: float | None = None
    """Differences of public scores up to this are ties; None: people left no pair of the validation split undecided."""
    ece: float
    brier: float
    reliability: list[ReliabilityBin]
    calibration_slices: list[CalibrationSlice] = Field(default_factory=list)
    slices: list[SliceLine]
    threshold: ThresholdEvidence
    champion: ChampionComparison | None
    held_out: int
    """Answers outside the training split."""
    unscored: int
    """Held-out answers too long to be scored: left out with their pairs."""
    score_mean: float
    score_spread: float
    score_histogram: list[tuple[float, int, int]] = Field(default_factory=list)
    """(left edge, acceptable items, unacceptable items) of the public score on the test split."""
    highest: list[ScoredExample]
    lowest: list[ScoredExample]
    most_wrong: list[ScoredExample]
