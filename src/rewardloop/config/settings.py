"""All sections together."""

import json
from typing import Annotated

from pydantic import Field, field_validator

from rewardloop.config.alignment import AlignSettings, PolicyEvaluationSettings, SftSettings
from rewardloop.config.base import Section
from rewardloop.config.data import (
    CorpusSettings,
    PreferenceSettings,
    SplitSettings,
    StoreSettings,
    ValidationSettings,
)
from rewardloop.config.distributed import DistributedSettings
from rewardloop.config.execution import RunnerSettings
from rewardloop.config.judge import JudgeSettings
from rewardloop.config.labeling import LabelingSettings
from rewardloop.config.operation import (
    ClaimSettings,
    HousekeepingSettings,
    NotificationSettings,
    ScheduleSettings,
    TriggerSettings,
    WebhookSettings,
)
from rewardloop.config.placement import PlacementSettings
from rewardloop.config.privacy import PrivacySettings
from rewardloop.config.promotion import GateSettings, PromotionSettings, TrackingSettings
from rewardloop.config.reward_model import EvaluationSettings, ModelSettings, ThresholdSettings, TrainingSettings
from rewardloop.config.serving import DriftSettings, ServingSettings

OPERATION = {
    "promotion",
    "claims",
    "trigger",
    "webhook",
    "schedule",
    "placement",
    "distributed",
    "runner",
    "serving",
    "drift",
    "notifications",
    "housekeeping",
    "privacy",
    "judge",
    "labeling",
}
"""Sections that say how rewardloop is run; no model comes out differently for them."""


class Settings(Section):
    """Everything rewardloop can be told."""

    organization: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """Names the MLflow experiment and, with ``-reward``, the registered model."""
    home: str = ".rewardloop"
    """Folder of everything local: runs, caches, checkpoints, the default store and tracking database."""
    store: StoreSettings = StoreSettings()
    splits: SplitSettings = SplitSettings()
    corpus: CorpusSettings = CorpusSettings()
    validation: ValidationSettings = ValidationSettings()
    preferences: PreferenceSettings = PreferenceSettings()
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    sft: SftSettings = SftSettings()
    align: AlignSettings | None = None
    """Present: runs go on to align a policy to the new reward model."""
    policy_evaluation: PolicyEvaluationSettings = PolicyEvaluationSettings()
    gate: GateSettings = GateSettings()
    tracking: TrackingSettings = TrackingSettings()
    promotion: PromotionSettings = PromotionSettings()
    claims: ClaimSettings = ClaimSettings()
    trigger: TriggerSettings = TriggerSettings()
    webhook: WebhookSettings = WebhookSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    placement: PlacementSettings = PlacementSettings()
    distributed: DistributedSettings = DistributedSettings()
    runner: RunnerSettings = RunnerSettings()
    serving: ServingSettings = ServingSettings()
    drift: DriftSettings = DriftSettings()
    notifications: NotificationSettings = NotificationSettings()
    housekeeping: HousekeepingSettings = HousekeepingSettings()
    privacy: PrivacySettings = PrivacySettings()
    labeling: LabelingSettings = LabelingSettings()
    judge: JudgeSettings = JudgeSettings()

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

    @property
    def policy_name(self) -> str:
        """Name of the registered policy."""
        return f"{self.organization}-policy"

    def section(self, *names: str) -> str:
        """The named sections as one canonical JSON text: what a pipeline step is given."""
        return json.dumps(self.model_dump(mode="json", include=set(names)), sort_keys=True)
