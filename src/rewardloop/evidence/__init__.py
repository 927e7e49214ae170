"""What each step leaves behind for people and for later steps: small typed JSON files.

``steps`` write them beside their artifacts, ``decide_promotion`` judges by them and the report shows them. Shares and
accuracies are fractions of 1; times are seconds; every interval is two-sided at ``level``.
"""

from rewardloop.evidence.alignment import (
    AlignmentEvidence,
    Change,
    CurrentModelEvidence,
    CurrentToxicityLine,
    HumanComparison,
    JudgeLine,
    PerplexityLine,
    PolicyEvaluationEvidence,
    PolicySample,
    ReferencesEvidence,
    SampleLine,
    SftEvidence,
    ToxicityLine,
    UpdatePoint,
    ValidationRewardPoint,
)
from rewardloop.evidence.base import (
    Estimate,
    Evidence,
)
from rewardloop.evidence.data import (
    AgreementLine,
    BatchLine,
    BatchVerdict,
    CorpusEvidence,
    ExpectationLine,
    PreferenceEvidence,
    SplitLine,
    ValidationEvidence,
)
from rewardloop.evidence.promotion import (
    NO_CHAMPION,
    Blessing,
    Check,
    PolicyRegistration,
    PolicyVerdict,
    RegistrationEvidence,
)
from rewardloop.evidence.reward_model import (
    BeforeAfter,
    ChampionComparison,
    CurvePoint,
    EvaluationEvidence,
    ReliabilityBin,
    ScoredExample,
    SliceLine,
    ThresholdEvidence,
    TrainingEvidence,
    ValidationPoint,
    WarmStartEvidence,
)
from rewardloop.evidence.run import (
    RunRecord,
    StepRecord,
)

__all__ = [
    "NO_CHAMPION",
    "AgreementLine",
    "AlignmentEvidence",
    "BatchLine",
    "BatchVerdict",
    "BeforeAfter",
    "Blessing",
    "ChampionComparison",
    "Change",
    "Check",
    "CorpusEvidence",
    "CurrentModelEvidence",
    "CurrentToxicityLine",
    "CurvePoint",
    "Estimate",
    "EvaluationEvidence",
    "Evidence",
    "ExpectationLine",
    "HumanComparison",
    "JudgeLine",
    "PerplexityLine",
    "PolicyEvaluationEvidence",
    "PolicyRegistration",
    "PolicySample",
    "PolicyVerdict",
    "PreferenceEvidence",
    "ReferencesEvidence",
    "RegistrationEvidence",
    "ReliabilityBin",
    "RunRecord",
    "SampleLine",
    "ScoredExample",
    "SftEvidence",
    "SliceLine",
    "SplitLine",
    "StepRecord",
    "ThresholdEvidence",
    "ToxicityLine",
    "TrainingEvidence",
    "UpdatePoint",
    "ValidationEvidence",
    "ValidationPoint",
    "ValidationRewardPoint",
    "WarmStartEvidence",
]
