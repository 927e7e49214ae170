"""Sections on feedback: where it lies, how it is split, checked and paired."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewardloop.config.base import Positive, Section, Share
from rewardloop.config.judge import ModelLabelerSettings

Alpha = Annotated[float, Field(ge=-1, le=1)]


class StoreSettings(Section):
    """Where feedback batches live."""

    url: str = ".rewardloop/store"
    """Local path, or an fsspec URL of a store with conditional creates: s3:// or gs://."""
    max_read_bytes: Positive = 1 << 30
    """Most bytes that one ingest, or one file of texts, may come to once unpacked: a small archive can be a bomb."""
    max_row_characters: Positive = 1 << 24
    """Most characters of one row of feedback; rows are held one at a time, files never."""


class SplitSettings(Section):
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


class CorpusSettings(Section):
    """Which of the store's batches a run is trained on; ages count from the newest batch, so equal stores agree."""

    window: Literal["all", "last_days", "decay"] = "all"
    """``last_days``: batches of the last ``days``. ``decay``: all, old labels weighing less."""
    days: Annotated[float, Field(gt=0)] | None = None
    half_life_days: Annotated[float, Field(gt=0)] | None = None
    """Labels of a batch weigh 0.5 ** (age / half_life_days)."""

    @model_validator(mode="after")
    def _fits_window(self) -> Self:
        belongs = {"last_days": "days", "decay": "half_life_days"}
        for window, name in belongs.items():
            if (getattr(self, name) is not None) != (self.window == window):
                problem = "needs" if self.window == window else "does not take"
                raise ValueError(f"window {self.window!r} {problem} {name}; it belongs to window {window!r}")
        return self


class ValidationSettings(Section):
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
    min_agreement: Alpha | None = None
    """Krippendorff's alpha of the trained criterion; None: reported, not gated."""


class ReliabilitySettings(Section):
    """How far each labeler is believed; labelers without an identity always count 1."""

    method: Literal["none", "dawid_skene"] = "dawid_skene"
    """``none``: every vote counts the same and ratings are compared as they are."""
    max_votes_per_labeler: Positive = 1_000
    """Votes of one labeler that his reliability is estimated from (a seeded sample, the same pairs for everybody)."""
    min_votes_per_labeler: Positive = 5
    """With fewer votes on pairs that others judged too, a labeler counts 1."""
    prior_votes: Annotated[float, Field(ge=0)] = 20
    """A labeler's reliability (and level of rating) is drawn to the average as if he had so many average votes more."""
    position_share: Annotated[float, Field(gt=0.5, le=1)] = 0.9
    """A labeler who prefers the first (or the last) answer of a record more often than this may do so by habit."""
    length_share: Annotated[float, Field(gt=0.5, le=1)] = 0.9
    """A labeler who prefers the longer answer more often than this may do so by habit."""


class SegmentSettings(Section):
    """Whose labels count, by the segment of the record that a label came with."""

    mode: Literal["together", "weighted", "only"] = "together"
    """``together``: all alike. ``weighted``: votes count by ``weights``. ``only``: labels of one segment count."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Segment -> weight of its votes; segments that are not named have 1, labels of weight 0 are left out."""
    only: str | None = None
    """The segment whose labels count, and nobody else's."""

    @model_validator(mode="after")
    def _fits_mode(self) -> Self:
        if (self.mode == "only") != (self.only is not None):
            raise ValueError(f"mode {self.mode!r} with only = {self.only!r}; `only` names the segment of mode 'only'")
        if (self.mode == "weighted") != bool(self.weights):
            raise ValueError(f"mode {self.mode!r} with weights = {self.weights}; `weights` belong to mode 'weighted'")
        return self


class PreferenceSettings(Section):
    """How labels become pairs."""

    criterion: str = "overall"
    group_size: Annotated[int, Field(ge=2, le=64)] = 8
    """How many single texts are compared at a time."""
    min_votes: Positive = 1
    """Comparisons of a pair, whatever each of them weighs."""
    acceptable_rating: float | None = None
    """An answer whose mean rating reaches this is acceptable; explicit labels go first."""
    acceptable_from: Literal["auto", "labels", "ratings", "comparisons"] = "auto"
    """What says which answers may be shown; ``auto``: the first of the others that there is."""
    min_agreement: dict[str, Alpha] | Alpha | None = None
    """Krippendorff's alpha below which a criterion is refused, for each criterion or one for all; None: reported."""
    reliability: ReliabilitySettings = ReliabilitySettings()
    model_labelers: ModelLabelerSettings = ModelLabelerSettings()
    segments: SegmentSettings = SegmentSettings()
