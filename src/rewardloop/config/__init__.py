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
from rewardloop.config.distributed import DistributedSettings
from rewardloop.config.loading import LoadedSettings, flatten, load_settings
from rewardloop.config.operation import (
    ClaimSettings,
    Event,
    HousekeepingSettings,
    NotificationSettings,
    ScheduleSettings,
    TriggerSettings,
    WebhookSettings,
)
from rewardloop.config.placement import (
    HOME_VARIABLE,
    STEP_LABEL,
    STEPS,
    PlacementSettings,
    RetrySettings,
    StepPlacement,
    TolerationSettings,
    VolumeSettings,
)
from rewardloop.config.profiles import PROFILES
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
from rewardloop.errors import without_password

__all__ = [
    "EXECUTION",
    "HOME_VARIABLE",
    "OPERATION",
    "PLACES",
    "PROFILES",
    "STEPS",
    "STEP_LABEL",
    "AlignSettings",
    "ClaimSettings",
    "CorpusSettings",
    "DecisionLogSettings",
    "DistributedSettings",
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
    "PlacementSettings",
    "PolicyEvaluationSettings",
    "PolicyGateSettings",
    "PpoSettings",
    "PreferenceSettings",
    "PromotionSettings",
    "ReliabilitySettings",
    "RetrySettings",
    "ReviewSettings",
    "ScheduleSettings",
    "SegmentSettings",
    "ServingSettings",
    "Settings",
    "SftSettings",
    "SplitSettings",
    "StepPlacement",
    "StopSettings",
    "StoreSettings",
    "ThresholdSettings",
    "TolerationSettings",
    "TrackingSettings",
    "TrainingSettings",
    "TriggerSettings",
    "ValidationSettings",
    "VolumeSettings",
    "WarmStartSettings",
    "WebhookSettings",
    "flatten",
    "load_settings",
    "without_password",
]
