"""Sections on feedback: where it lies, how it is split, checked and paired."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rewardloop.config.base import Positive, Section, Share


class StoreSettings(Section):
    """Where feedback batches live."""

    url: str = ".rewardloop/store"
    """Local path, or an fsspec URL of a store with conditional creates: s3:// or gs://."""


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
    min_agreement: float | None = Field(default=None, ge=-1, le=1)
    """Krippendorff's alpha of the trained criterion; None: reported, not gated."""


class PreferenceSettings(Section):
    """How labels become pairs."""

    criterion: str = "overall"
    group_size: Annotated[int, Field(ge=2, le=64)] = 8
    """How many single texts are compared at a time."""
    min_votes: Positive = 1
    acceptable_rating: float | None = None
    """An answer whose mean rating reaches this is acceptable; explicit labels go first."""
