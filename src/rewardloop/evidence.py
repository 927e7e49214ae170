"""What each step leaves behind for people and for later steps: small typed JSON files.

``steps`` write them beside their artifacts, ``decide_promotion`` judges by them and the report shows them. Shares and
accuracies are fractions of 1; times are seconds; every interval is two-sided at ``level``.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Evidence(BaseModel):
    """Base of everything below: unknown fields are refused, so that a renamed one cannot vanish in silence."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class Estimate(Evidence):
    """A measured value with its interval; ``count`` is the number of things averaged over (``unit``)."""

    value: float
    low: float
    high: float
    level: float = 0.95
    count: int
    unit: str = "pairs"


# load_corpus ---------------------------------------------------------------------------------------------------------
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


# validate_feedback ---------------------------------------------------------------------------------------------------
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


# build_preferences ---------------------------------------------------------------------------------------------------
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


# train_reward_model --------------------------------------------------------------------------------------------------
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


# evaluate_reward_model -----------------------------------------------------------------------------------------------
class ReliabilityBin(Evidence):
    """Predicted against observed preference in one bin."""

    predicted: float
    observed: float
    pairs: int


class SliceLine(Evidence):
    """Accuracy on a part of the test pairs."""

    name: str
    accuracy: Estimate


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


class ChampionComparison(Evidence):
    """Candidate minus champion on the same items, paired."""

    version: str
    accuracy: Estimate
    difference: Estimate
    golden_difference: Estimate | None
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
    length_controlled_accuracy: float | None
    score_length_correlation: float
    temperature: float
    ece: float
    brier: float
    reliability: list[ReliabilityBin]
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


# decide_promotion ----------------------------------------------------------------------------------------------------
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


# register_models -----------------------------------------------------------------------------------------------------
class RegistrationEvidence(Evidence):
    """What the registry holds now."""

    name: str
    version: str
    champion: bool
    previous: str | None
    threshold: float | None
    history_sequence: int
    manifest_digest: str
    parity_difference: float
    """Largest difference between fixture scores and scores after reloading from the registry."""


# every step ----------------------------------------------------------------------------------------------------------
class StepRecord(Evidence):
    """What happened to one step of one run; KFP itself loses exit codes and causes."""

    step: str
    status: Literal["running", "finished", "failed", "cached"]
    started_at: str
    seconds: float | None = None
    produced: str = ""
    error: str | None = None
    exit_code: int | None = None


class RunRecord(Evidence):
    """One pipeline run, as the report sees it."""

    run_id: str
    organization: str
    corpus_digest: str
    config_digest: str
    started_at: str
    seconds: float | None = None
    status: Literal["running", "blessed", "not blessed", "failed"] = "running"
    mlflow_run_id: str | None = None
    tracking_uri: str | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    """Flattened setting -> value."""
    origins: dict[str, str] = Field(default_factory=dict)
    """Flattened setting -> where the value came from."""
