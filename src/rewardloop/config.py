"""One YAML file becomes a checked ``Settings``; every mistake in it is reported at once.

A value's origin is the YAML file, a ``--set section.key=value`` override, or the default; ``load_settings`` keeps it
for the record of the run. Unknown keys are refused: a misspelt setting must not silently keep its default.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rewardloop.errors import BadInputError

_USER_IN_URL = re.compile(r"(\w://)[^/@\s]+@")
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class StoreSettings(_Section):
    """Where feedback batches live."""

    url: str = ".rewardloop/store"
    """Local path, or an fsspec URL of a store with conditional creates: s3:// or gs://."""


class SplitSettings(_Section):
    """Shares of documents per split; written to the store at the first ingest and frozen there."""

    salt: str = "rewardloop"
    train: Share = 0.7
    validation: Share = 0.1
    calibration: Share = 0.1
    test: Share = 0.1
    golden: Share = 0.05
    """Share of the first batch's documents set aside for ever, before the other shares apply."""
    anchors: Positive = 256
    """Responses (of the golden set) on which score scales of versions are compared."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.validation + self.calibration + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + calibration + test = {total:g}; expected 1")
        if self.golden >= 0.5:
            raise ValueError(f"golden = {self.golden:g}; expected less than 0.5, it is never trained on")
        return self


class ValidationSettings(_Section):
    """What a batch must satisfy."""

    max_failed_share: Share = 0.05
    """A batch with a larger share of rows that fail is refused; the same limit holds while importing."""
    min_response_characters: Positive = 1
    max_response_characters: Positive = 20_000
    max_prompt_characters: Positive = 50_000
    min_labelers_per_item: Positive = 1
    """Labels per group; rows with fewer are quarantined."""
    min_labelers_per_batch: Positive = 2
    """Distinct labelers of a batch where they have identities, else labels per item."""
    min_groups_per_batch: Positive = 2
    max_duplicate_share: Share = 0.2
    max_label_imbalance: Share = 0.95
    """Largest share that one label value may have in a batch."""
    min_agreement: float | None = Field(default=None, ge=-1, le=1)
    """Krippendorff's alpha of the trained criterion; None: reported, not gated."""


class PreferenceSettings(_Section):
    """How labels become pairs."""

    criterion: str = "overall"
    group_size: Annotated[int, Field(ge=2, le=64)] = 8
    """How many single texts are compared at a time."""
    min_votes: Positive = 1
    acceptable_rating: float | None = None
    """An answer whose mean rating reaches this is acceptable; explicit labels go first."""


class ModelSettings(_Section):
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


class WarmStartSettings(_Section):
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


class TrainingSettings(_Section):
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


class EvaluationSettings(_Section):
    """How held-out accuracy is measured."""

    min_rating_gap: Annotated[float, Field(ge=0)] = 0.0
    """Pairs of rated answers closer than this in mean rating do not count."""
    max_pairs: Positive = 500_000
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    tokens_per_batch: Positive = 2048
    """Tokens that are scored at once."""
    seed: int = 0


class ThresholdSettings(_Section):
    """The guarantee: P(unacceptable | accepted) <= alpha with confidence 1 - delta."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    grid: Annotated[int, Field(ge=2, le=10_000)] = 50
    """How many thresholds are tried, from strict to lenient."""


class GateSettings(_Section):
    """Limits of the gate; without any, nothing is ever blessed."""

    min_accuracy: Share | None = None
    """Lower end of the accuracy's interval."""
    min_over_length_only: float | None = None
    min_over_bag_of_words: float | None = None
    """Lower end of the paired difference's interval."""
    max_ece: Share | None = None
    require_threshold: bool = True
    max_unscored: Share = 0.1
    """Share of held-out answers that the model cannot score, for their length: the figures say nothing of them."""
    max_unacceptable_among_accepted: Share | None = None
    """On the test split, point value."""
    not_worse_than_champion_by: Annotated[float, Field(ge=0)] = 0.01
    """Lower end of the paired difference to the champion must be above minus this."""
    better_than_champion_by: float | None = None
    """Set to require an improvement: the lower end must be above this."""

    def any_limit(self) -> bool:
        """Whether at least one absolute limit is configured."""
        limits = (
            self.min_accuracy,
            self.min_over_length_only,
            self.min_over_bag_of_words,
            self.max_ece,
            self.max_unacceptable_among_accepted,
        )
        return any(limit is not None for limit in limits)


class TrackingSettings(_Section):
    """MLflow."""

    uri: str | None = None
    """None: ``MLFLOW_TRACKING_URI``, else an SQLite file under ``home``."""
    timeout_seconds: Positive = 20
    """How long to wait for a tracking server."""


class Settings(_Section):
    """Everything rewardloop can be told."""

    organization: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """Names the MLflow experiment and, with ``-reward``, the registered model."""
    home: str = ".rewardloop"
    """Folder of everything local: runs, caches, checkpoints, the default store and tracking database."""
    store: StoreSettings = StoreSettings()
    splits: SplitSettings = SplitSettings()
    validation: ValidationSettings = ValidationSettings()
    preferences: PreferenceSettings = PreferenceSettings()
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    gate: GateSettings = GateSettings()
    tracking: TrackingSettings = TrackingSettings()

    @field_validator("home")
    @classmethod
    def _not_empty(cls, home: str) -> str:
        if not home.strip():
            raise ValueError("is empty; expected a folder, .rewardloop for example")
        return home

    @property
    def model_name(self) -> str:
        """Name of the registered reward model."""
        return f"{self.organization}-reward"

    def section(self, *names: str) -> str:
        """The named sections as one canonical JSON text: what a pipeline step is given."""
        return json.dumps(self.model_dump(mode="json", include=set(names)), sort_keys=True)


@dataclass(frozen=True)
class LoadedSettings:
    """Settings and, per flattened key (``training.seed``), where the value came from."""

    settings: Settings
    origins: dict[str, str]
    path: Path

    @property
    def digest(self) -> str:
        """SHA-256 of everything that can change a model: all sections but the places."""
        text = json.dumps(self.settings.model_dump(mode="json", exclude={"home", "store", "tracking"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) for each leaf of nested mappings."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without_password(text: str) -> str:
    """A URL with its user and password replaced by ***; any other text as it is."""
    return _USER_IN_URL.sub(r"\1***@", text)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> LoadedSettings:
    """Read ``path``, apply ``section.key=value`` overrides (values are YAML), check everything.

    Raises:
        BadInputError: the file cannot be read, or lists every setting that is wrong with its path and what is allowed.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}; name a configuration with --config") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise BadInputError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise BadInputError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    origins = {key: str(path) for key, _ in flatten(tree)}
    for override in overrides:
        _apply(tree, override)
        origins[override.partition("=")[0].strip()] = "--set"
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors(include_url=False)]
        many = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        message = "\n  ".join([f"{path}: {many} in the configuration", *lines])
        raise BadInputError(message) from error
    resolved = {key: origins.get(key, "default") for key, _ in flatten(settings.model_dump(mode="json"))}
    return LoadedSettings(settings=settings, origins=resolved, path=path)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise BadInputError(f"--set {override!r}: expected section.key=value, for example training.seed=1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"--set {override!r}: the value is not valid YAML: {error}") from error
    for name in names[:-1]:
        branch = tree.setdefault(name, {})
        if not isinstance(branch, dict):
            raise BadInputError(f"--set {override!r}: {name!r} is a value, not a section")
        tree = branch
    tree[names[-1]] = value


def _explain(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "(whole file)"
    if item["type"] == "extra_forbidden":
        section = _section_at([str(part) for part in item["loc"][:-1]])
        allowed = sorted(section.model_fields) if section else []
        close = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        return f"{place}: unknown setting{hint} Allowed here: {', '.join(allowed)}"
    if item["type"] == "missing":
        return f"{place}: missing; it has no default"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{place}: {message}"
    return f"{place}: found {item['input']!r}. {message}"


def _section_at(names: list[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Settings
    for name in names:
        field = model.model_fields.get(name)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    return model
