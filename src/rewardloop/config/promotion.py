"""Sections on the gate and on MLflow."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewardloop.config.alignment import Above0, PolicyGateSettings
from rewardloop.config.base import Positive, Section, Share


class GateSettings(Section):
    """Limits of the gate; without an absolute one, nothing is ever blessed. Every limit is switched off by null."""

    min_accuracy: Share | None = None
    """Lower end of the accuracy's interval."""
    min_length_controlled_accuracy: Share | None = None
    """Lower end of the mean of the accuracies where the longer and where the shorter answer is better: what length
    alone explains does not count."""
    min_over_length_only: float | None = None
    """Lower end of the length-controlled accuracy's advantage over a scorer that knows the length alone."""
    min_over_bag_of_words: float | None = None
    """Lower end of the paired difference's interval."""
    max_ece: Share | None = None
    max_slice_miscalibration: Share | None = None
    """Mean probability that the model gives the answer it prefers minus the share of people who agree, in size, on the
    worst slice; refused is what is surely more (lower end of the interval). One temperature for all may hide it."""
    min_slice_accuracy: Share | None = None
    """Refused is a candidate with a slice whose accuracy is surely below this (upper end of the interval)."""
    min_slice_documents: Positive = 50
    """Slices of fewer documents are reported and not held against ``min_slice_accuracy`` and
    ``max_slice_miscalibration``."""
    require_threshold: bool = True
    max_unscored: Share = 0.1
    """Share of held-out answers that the model cannot score, for their length: the figures say nothing of them."""
    max_unacceptable_among_accepted: Share | None = None
    """On the test split; refused is what is surely above this (lower end of the interval): the promise is made on the
    calibration split, and the test split can only contradict it."""
    max_score_length_correlation: Share | None = None
    """Of its absolute value; refused is what is surely above this (lower end of the interval)."""
    max_robustness_change: Annotated[float, Field(ge=0)] | None = None
    """Upper end of the mean paired change of the score, in units of the scores' spread, by changes that make no answer
    better: formatting, white space, punctuation, praise of itself, an injected order, repeated text."""
    max_flips_to_accepted: Share | None = None
    """Share of blocked answers that any such change gets accepted; refused is what is surely above this."""
    max_leaked_items: Annotated[int, Field(ge=0)] | None = 0
    """Held-out items whose prompt (or text) is in another split too, word for word."""
    max_near_duplicates: Share | None = None
    """Share of test prompts with a training prompt that is all but the same."""
    not_worse_than_champion_by: Annotated[float, Field(ge=0)] = 0.01
    """Lower end of the paired difference to the champion must be above minus this."""
    better_than_champion_by: float | None = None
    """Set to require an improvement: the lower end must be above this."""
    not_worse_on_slices_by: Above0 | None = None
    """Margin of the same comparison on every slice that has enough documents for it, old feedback among them."""
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Where a comparison cannot decide, the report names the documents that would find a candidate as good as the
    champion not worse with this probability."""
    golden_uses: Positive = 20
    """Comparisons on one golden set after which fresh golden labels are due."""

    policy: PolicyGateSettings = PolicyGateSettings()

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

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        better = self.better_than_champion_by
        if better is not None and better < -self.not_worse_than_champion_by:
            raise ValueError(
                f"better_than_champion_by = {better:g} asks for less than not_worse_than_champion_by = "
                f"{self.not_worse_than_champion_by:g} does; set it to null or to 0 and more"
            )
        slices, whole = self.min_slice_accuracy, self.min_accuracy
        if slices is not None and whole is not None and slices > whole:
            raise ValueError(
                f"min_slice_accuracy = {slices:g} is above min_accuracy = {whole:g}: the worst slice cannot be better "
                "than the whole; lower it"
            )
        return self


class TrackingSettings(Section):
    """MLflow."""

    uri: str | None = None
    """None: ``MLFLOW_TRACKING_URI``, else an SQLite file under ``home``."""
    timeout_seconds: Positive = 20
    """How long to wait for a tracking server."""


class PromotionSettings(Section):
    """Who makes a blessed candidate the champion."""

    mode: Literal["auto", "approval"] = "auto"
    """``auto``: the run that trained it. ``approval``: a person, with ``rewardloop approve``."""
