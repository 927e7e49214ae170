"""Everything a run left in its folder, read back; each part may be missing, because a run may stop anywhere.

In: ``run.json``, ``steps/*.json`` and ``evidence/*.json`` of a run's folder. Out: one ``RunEvidence``. A file that
cannot be read does not stop the report: it is named in ``unreadable``.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from rewardloop.errors import BadInputError
from rewardloop.evidence import (
    AlignmentEvidence,
    Blessing,
    CorpusEvidence,
    EvaluationEvidence,
    Evidence,
    PolicyEvaluationEvidence,
    PreferenceEvidence,
    ReferencesEvidence,
    RegistrationEvidence,
    RunRecord,
    SftEvidence,
    StepRecord,
    TrainingEvidence,
    ValidationEvidence,
)

_REWARD_MODEL = (
    "check_prerequisites",
    "load_corpus",
    "validate_feedback",
    "build_preferences",
    "train_reward_model",
    "evaluate_reward_model",
)
_VERDICT = ("decide_promotion", "register_models")
ALIGNMENT = ("train_sft", "generate_references", "align_policy", "evaluate_policy")
"""The steps that run only where the reward gate let them."""
PIPELINES = {
    "retrain": (*_REWARD_MODEL, *_VERDICT),
    "retrain-and-align": (*_REWARD_MODEL, "check_reward_gate", *ALIGNMENT, *_VERDICT),
}
"""Each pipeline's steps in their order."""
REPORT_STEP = "publish_report"
"""The step that writes the report; while it writes, its own record says "running"."""

_Part = TypeVar("_Part", bound=Evidence)


@dataclass(frozen=True)
class RunEvidence:
    """One run as its folder tells it; ``steps`` are in the pipeline's order."""

    folder: Path
    run: RunRecord
    steps: list[StepRecord] = field(default_factory=list)
    corpus: CorpusEvidence | None = None
    validation: ValidationEvidence | None = None
    preferences: PreferenceEvidence | None = None
    training: TrainingEvidence | None = None
    evaluation: EvaluationEvidence | None = None
    sft: SftEvidence | None = None
    references: ReferencesEvidence | None = None
    alignment: AlignmentEvidence | None = None
    policy_evaluation: PolicyEvaluationEvidence | None = None
    blessing: Blessing | None = None
    registration: RegistrationEvidence | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    """File -> why it could not be read."""

    @classmethod
    def read(cls, run_dir: Path) -> "RunEvidence":
        """Read a run's folder.

        Raises:
            BadInputError: ``run_dir`` has no readable ``run.json``, so it is not the folder of a run.
        """
        place = run_dir / "run.json"
        try:
            run = RunRecord.model_validate_json(place.read_bytes())
        except (OSError, ValidationError) as error:
            raise BadInputError(f"{place}: {_cause(error)}; name the folder of a run") from error
        unreadable: dict[str, str] = {}

        def part(name: str, model: type[_Part]) -> _Part | None:
            return _read(run_dir, f"evidence/{name}.json", model, unreadable)

        names = sorted(path.name for path in (run_dir / "steps").glob("*.json") if not path.name.startswith("."))
        records = [_read(run_dir, f"steps/{name}", StepRecord, unreadable) for name in names]
        return cls(
            folder=run_dir,
            run=run,
            steps=sorted((record for record in records if record), key=_position),
            corpus=part("corpus", CorpusEvidence),
            validation=part("validation", ValidationEvidence),
            preferences=part("preferences", PreferenceEvidence),
            training=part("training", TrainingEvidence),
            evaluation=part("evaluation", EvaluationEvidence),
            sft=part("sft", SftEvidence),
            references=part("references", ReferencesEvidence),
            alignment=part("alignment", AlignmentEvidence),
            policy_evaluation=part("policy_evaluation", PolicyEvaluationEvidence),
            blessing=part("blessing", Blessing),
            registration=part("registration", RegistrationEvidence),
            unreadable=unreadable,
        )

    @property
    def report(self) -> Path:
        """Where the run's report lies."""
        return self.folder / "report.html"

    @property
    def work_steps(self) -> list[StepRecord]:
        """The steps without the one that writes the report."""
        return [step for step in self.steps if step.step != REPORT_STEP]

    @property
    def aligns(self) -> bool:
        """Whether this run is meant to make a policy."""
        return self.run.pipeline == "retrain-and-align"

    @property
    def alignment_not_started(self) -> bool:
        """A run that was to make a policy, whose reward model was refused before any step of alignment."""
        refused = self.blessing is not None and not self.blessing.blessed
        return self.aligns and refused and not any(step.step in ALIGNMENT for step in self.steps)

    @property
    def seconds(self) -> float:
        """Seconds of the whole run; while it is not over, those of the steps that ran in it."""
        if self.run.seconds is not None:
            return self.run.seconds
        return sum(step.seconds or 0.0 for step in self.steps if step.status != "cached")


def step_metrics(evidence: RunEvidence) -> dict[str, float]:
    """What each step took, by metric name (``train_reward_model/cpu_seconds``), without those taken from the cache."""
    names = ("seconds", "startup_seconds", "cpu_seconds", "peak_memory_bytes", "peak_gpu_memory_bytes")
    found = {
        f"{step.step}/{name}": getattr(step, name)
        for step in evidence.work_steps
        if step.status != "cached"
        for name in names
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _read(folder: Path, name: str, model: type[_Part], unreadable: dict[str, str]) -> _Part | None:
    try:
        return model.model_validate_json((folder / name).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        unreadable[name] = _cause(error)
        return None


def _cause(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"


def _position(step: StepRecord) -> tuple[int, str]:
    # The longer pipeline has the steps of the shorter one in the same order.
    order = PIPELINES["retrain-and-align"]
    if step.step in order:
        return order.index(step.step), step.started_at
    return len(order) + (step.step == REPORT_STEP), step.started_at
