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
    CorpusSettings,
    PreferenceSettings,
    ReliabilitySettings,
    SegmentSettings,
    SplitSettings,
    StoreSettings,
    ValidationSettings,
)
from rewardloop.config.loading import LoadedSettings, flatten, load_settings, without_password
from rewardloop.config.operation import (
    ClaimSettings,
    Event,
    HousekeepingSettings,
    NotificationSettings,
    ScheduleSettings,
    TriggerSettings,
    WebhookSettings,
)
from rewardloop.config.promotion import GateSettings, PromotionSettings, TrackingSettings
from rewardloop.config.reward_model import (
    EXECUTION,
    EvaluationSettings,
    ModelSettings,
    ReviewSettings,
    ThresholdSettings,
    TrainingSettings,
    WarmStartSettings,
)
from rewardloop.config.serving import DecisionLogSettings, DriftSettings, ServingSettings
from rewardloop.config.settings import OPERATION, Settings

__all__ = [
    "EXECUTION",
    "OPERATION",
    "PLACES",
    "AlignSettings",
    "ClaimSettings",
    "CorpusSettings",
    "DecisionLogSettings",
    "DriftSettings",
    "EvaluationSettings",
    "Event",
    "GateSettings",
    "GenerationSettings",
    "HousekeepingSettings",
    "KlSettings",
    "LoadedSettings",
    "ModelSettings",
    "NotificationSettings",
    "PolicyEvaluationSettings",
    "PolicyGateSettings",
    "PpoSettings",
    "PreferenceSettings",
    "PromotionSettings",
    "ReliabilitySettings",
    "ReviewSettings",
    "ScheduleSettings",
    "SegmentSettings",
    "ServingSettings",
    "Settings",
    "SftSettings",
    "SplitSettings",
    "StopSettings",
    "StoreSettings",
    "ThresholdSettings",
    "TrackingSettings",
    "TrainingSettings",
    "TriggerSettings",
    "ValidationSettings",
    "WarmStartSettings",
    "WebhookSettings",
    "flatten",
    "load_settings",
    "without_password",
]
