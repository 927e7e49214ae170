"""Sections on the gate and on MLflow."""

from typing import Annotated

from pydantic import Field

from rewardloop.config.alignment import PolicyGateSettings
from rewardloop.config.base import Positive, Section, Share


class GateSettings(Section):
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


class TrackingSettings(Section):
    """MLflow."""

    uri: str | None = None
    """None: ``MLFLOW_TRACKING_URI``, else an SQLite file under ``home``."""
    timeout_seconds: Positive = 20
    """How long to wait for a tracking server."""
