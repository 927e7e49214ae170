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
from rewardloop.config.judge import JudgeSettings, ModelLabelerSettings, RuleSettings
from rewardloop.config.labeling import KNOWN_ANSWER, LabelingSettings, SampledModel
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
from rewardloop.config.privacy import PrivacySettings, RedactedKind
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
    "KNOWN_ANSWER",
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
    "JudgeSettings",
    "KlSettings",
    "LabelingSettings",
    "LoadedSettings",
    "ModelLabelerSettings",
    "ModelSettings",
    "NotificationSettings",
    "PlacementSettings",
    "PolicyEvaluationSettings",
    "PolicyGateSettings",
    "PpoSettings",
    "PreferenceSettings",
    "PrivacySettings",
    "PromotionSettings",
    "RedactedKind",
    "ReliabilitySettings",
    "RetrySettings",
    "ReviewSettings",
    "RuleSettings",
    "SampledModel",
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
