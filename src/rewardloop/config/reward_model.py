"""Sections on the reward model: its base, its training, its evaluation, its threshold."""

from typing import Annotated, Literal

from pydantic import Field

from rewardloop.config.base import Positive, Section, Share


class ModelSettings(Section):
    """The base model and how texts are put to it."""

    base: str
    """A hub id, a local directory, ``package:NAME/FILE.gguf`` in an installed package, or ``random:tiny``."""
    max_length: Annotated[int, Field(ge=8)] = 512
    truncation_side: Literal["left", "right"] = "left"
    """The side of the *prompt* that is cut when prompt and response are too long; responses are never cut."""
    plain_text: bool | None = None
    """True: no chat template, prompt and response one after the other. None: the template where the base has one and
    there is a prompt."""


EXECUTION = {
    "tokens_per_batch",
    "gradient_checkpointing",
    "compile",
    "frozen_cache_gb",
    "processes",
    "sharding",
    "checkpoints",
}
"""Training settings that say how the work is done, not what comes out: a checkpoint may go on with others."""


class WarmStartSettings(Section):
    """How a retrain goes on from the champion instead of from the base."""

    enabled: bool = True
    replay_share: Annotated[float, Field(ge=0)] = 0.5
    """Groups of earlier batches that are trained on again, per group of the new ones."""
    replay_half_life_days: Annotated[float, Field(gt=0)] | None = None
    """An earlier group this much older is half as likely to be replayed; None: age does not matter."""
    learning_rate_scale: Annotated[float, Field(gt=0)] = 0.5
    """The champion knows most of it already: smaller steps disturb it less."""
    tolerance: Annotated[float, Field(ge=0)] = 0.01
    """By how much the validation accuracy may fall below the champion's; else the base is trained on everything."""
    check_items: Positive = 128
    """Answers of the test split, known to the champion, that are scored before and after (a seeded sample)."""


class TrainingSettings(Section):
    """How the reward model is trained."""

    method: Literal["full", "top_layers", "lora"] = "full"
    top_layers: Positive = 6
    """With ``top_layers``: how many of the last layers train, with the final norm and the head."""
    lora_rank: Positive = 16
    lora_alpha: Positive = 32
    lora_dropout: Share = 0.0
    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_groups: Positive | None = None
    """Train on this many groups at most (a seeded sample)."""
    groups_per_step: Positive = 2
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_share: Share = 0.1
    schedule: Literal["linear", "cosine"] = "linear"
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    centering: Annotated[float, Field(ge=0)] = 0.01
    """Weight of (mean score of a group)^2; TRL's ``center_rewards_coefficient`` is a quarter of it at K = 2."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Labels are moved so far towards one half."""
    margin: Literal["none", "preference", "rating"] = "none"
    """By how much the better answer must score more: by labelers' agreement, or by the difference of the ratings."""
    margin_scale: Annotated[float, Field(gt=0)] = 1.0
    weight_by_votes: bool = False
    """Pairs that more labelers compared count more."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tokens_per_batch: Positive | None = None
    """Tokens that go through the model at once; None: chosen for the device. It changes memory and speed only."""
    gradient_checkpointing: bool = False
    compile: bool = False
    """Compile the layers with torch.compile."""
    frozen_cache_gb: Annotated[float, Field(ge=0)] = 2.0
    """Memory for what frozen lower layers give, so that they are computed once; 0: never kept."""
    processes: Positive | None = None
    """None: one per GPU, else one."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: each holds all weights, or they share them (FSDP2)."""
    evaluations: Annotated[int, Field(ge=1)] = 4
    """How often the validation split is scored during the run, evenly spaced."""
    validation_groups: Positive = 64
    """Groups of the validation split used for stopping (a seeded sample)."""
    patience: Positive = 2
    """Stop after so many evaluations without a better validation loss."""
    checkpoints: Positive = 4
    """How many checkpoints are written over the run."""
    seed: int = 0
    warm_start: WarmStartSettings = WarmStartSettings()


class EvaluationSettings(Section):
    """How held-out accuracy is measured."""

    min_rating_gap: Annotated[float, Field(ge=0)] = 0.0
    """Pairs of rated answers closer than this in mean rating do not count."""
    max_pairs: Positive = 500_000
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    tokens_per_batch: Positive = 2048
    """Tokens that are scored at once."""
    robustness_items: Positive = 200
    """Test answers, one per document, that are scored again after each perturbation (a seeded sample)."""
    leak_items: Positive = 1000
    """Test texts whose most similar training text is looked for (a seeded sample)."""
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Texts at least this similar (cosine of character n-grams) are called near duplicates."""
    length_margin: Share = 0.05
    """A length-only scorer this close to the candidate's accuracy is called nearly as good."""
    reference_items: Positive = 5_000
    """Held-out answers, one per document, whose score and lengths are kept as what drift is measured against (a seeded
    sample)."""
    seed: int = 0


class ReviewSettings(Section):
    """A second threshold: what lies below it is blocked, what lies between the two is sent to a person."""

    alpha_blocked: Annotated[float, Field(gt=0, lt=1)]
    """P(acceptable | blocked) <= alpha_blocked, a promise of its own with confidence 1 - delta."""


class ThresholdSettings(Section):
    """The guarantee: P(unacceptable | accepted) <= alpha with confidence 1 - delta."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    grid: Annotated[int, Field(ge=2, le=10_000)] = 200
    """How many thresholds are tried, from strict to lenient."""
    review: ReviewSettings | None = None
    """None: every answer is accepted or blocked, and nobody is asked."""
