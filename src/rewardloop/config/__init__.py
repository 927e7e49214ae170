"""Everything rewardloop can be told: one YAML file, checked, every mistake reported at once."""

from rewardloop.config.alignment import (
    PLACES,
    AlignSettings,
    GenerationSettings,
    KlSettings,
    PolicyEvaluationSettings,
    PolicyGateSettings,
    PpoSettings,
    SftSettings,
    StopSettings,
)
from rewardloop.config.data import (
    PreferenceSettings,
    ReliabilitySettings,
    SegmentSettings,
    SplitSettings,
    StoreSettings,
    ValidationSettings,
)
from rewardloop.config.loading import LoadedSettings, flatten, load_settings, without_password
from rewardloop.config.promotion import GateSettings, TrackingSettings
from rewardloop.config.reward_model import (
    EXECUTION,
    EvaluationSettings,
    ModelSettings,
    ReviewSettings,
    ThresholdSettings,
    TrainingSettings,
    WarmStartSettings,
)
from rewardloop.config.settings import Settings

__all__ = [
    "EXECUTION",
    "PLACES",
    "AlignSettings",
    "EvaluationSettings",
    "GateSettings",
    "GenerationSettings",
    "KlSettings",
    "LoadedSettings",
    "ModelSettings",
    "PolicyEvaluationSettings",
    "PolicyGateSettings",
    "PpoSettings",
    "PreferenceSettings",
    "ReliabilitySettings",
    "ReviewSettings",
    "SegmentSettings",
    "Settings",
    "SftSettings",
    "SplitSettings",
    "StopSettings",
    "StoreSettings",
    "ThresholdSettings",
    "TrackingSettings",
    "TrainingSettings",
    "ValidationSettings",
    "WarmStartSettings",
    "flatten",
    "load_settings",
    "without_password",
]
