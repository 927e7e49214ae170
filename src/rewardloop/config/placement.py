"""Section on where the steps run on a cluster: images, hardware, volumes, secrets, retries.

In: the section ``placement`` of a configuration. Out: one complete ``StepPlacement`` per step. Nothing here can change
a model, so it is no part of the digest of a configuration; a laptop's runs do not read it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rewardloop.config.base import Positive, Section

Cpu = Annotated[str, Field(pattern=r"^([0-9]*[.])?[0-9]+m?$")]
Memory = Annotated[str, Field(pattern=r"^[0-9]+(E|Ei|P|Pi|T|Ti|G|Gi|M|Mi|K|Ki)?$")]
Seconds = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""A name of a Kubernetes object."""
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
MountPath = Annotated[str, Field(pattern=r"^/.+")]

STEPS = (
    "align_policy",
    "build_preferences",
    "check_prerequisites",
    "check_reward_gate",
    "decide_promotion",
    "evaluate_policy",
    "evaluate_reward_model",
    "generate_references",
    "load_corpus",
    "publish_report",
    "register_models",
    "submit_when_due",
    "train_reward_model",
    "train_sft",
    "validate_feedback",
)
"""Every component, and ``submit_when_due``, the one task of the recurring run."""
STEP_LABEL = "rewardloop/step"
"""Label of a step's pod."""
HOME_VARIABLE = "REWARDLOOP_HOME"
"""Where steps find caches of base models, checkpoints and the folder of the run."""


class TolerationSettings(Section):
    """A taint of nodes that a step's pod puts up with."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """None: all of them."""
    seconds: Seconds | None = None
    """With ``NoExecute``: how long the pod stays on a node that got the taint; None: for ever."""

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(f"operator Exists takes no value; found {self.value!r}")
        if self.key is None and self.operator != "Exists":
            raise ValueError("without a key the operator must be Exists, which tolerates every taint")
        return self


class VolumeSettings(Section):
    """A persistent volume claim, mounted; it must be there already, in the namespace of the runs."""

    claim: Name
    path: MountPath
    sub_path: str = ""


class RetrySettings(Section):
    """How often a step whose pod failed or was taken away is started again; training goes on from its checkpoint."""

    times: Annotated[int, Field(ge=0)] = 0
    backoff_seconds: Seconds = 60
    backoff_factor: Annotated[float, Field(ge=1)] = 2.0
    max_backoff_seconds: Seconds = 3600


class StepPlacement(Section):
    """Where a step runs and what it may use. Null: as ``placement.default`` has it; there: Kubernetes' own default."""

    image: str | None = None
    """It must hold rewardloop."""
    cpu_request: Cpu | None = None
    """Cores, ``4`` or ``500m``."""
    cpu_limit: Cpu | None = None
    memory_request: Memory | None = None
    """``16Gi``."""
    memory_limit: Memory | None = None
    accelerator: str | None = None
    """Name of the resource, ``nvidia.com/gpu``."""
    accelerators: Literal[0, 1, 2, 4, 8, 16] | None = None
    """How many: the numbers that Kubeflow Pipelines takes; 0: none, whatever the default has."""
    node_selector: dict[str, str] | None = None
    """Labels that the node must have."""
    tolerations: tuple[TolerationSettings, ...] | None = None
    shared_memory: Memory | None = None
    """Size of /dev/shm, in the pod's memory; 64 MB, the usual default, is too small for several processes of a node."""
    volumes: tuple[VolumeSettings, ...] | None = None
    environment: dict[Variable, str] | None = None
    """Shown to everybody who sees the run, and part of KFP's cache key: nothing secret, nothing that changes by run."""
    secrets: dict[Name, dict[Variable, str]] | None = None
    """Secret -> variable of the environment -> key in the secret."""
    image_pull_secrets: tuple[Name, ...] | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    retries: RetrySettings | None = None
    time_limit_seconds: Positive | None = None
    """The pod is stopped after so long, waiting for an image included."""
    cache: bool | None = None
    """False: never taken from KFP's cache. Steps that change something outside never are, whatever is set here."""

    @model_validator(mode="after")
    def _accelerator_has_a_name(self) -> Self:
        if self.accelerators and self.accelerator == "":
            raise ValueError(f"accelerators = {self.accelerators} of no resource; set accelerator: nvidia.com/gpu")
        return self


class PlacementSettings(Section):
    """Where steps run on a cluster: what all have in common, and what is different for some."""

    namespace: Name | None = None
    """Namespace that manifests for GitOps name; None: none, kustomize or kubectl set it. Runs that are submitted over
    HTTP go where Kubeflow Pipelines puts those of the token's owner."""
    service_account: Name | None = None
    """Under which the pods of a run run; Kubeflow Pipelines knows one per run. None: its default, pipeline-runner."""
    home: VolumeSettings | None = None
    """A claim that all steps mount (ReadWriteMany where they run on several nodes): the cache of base models,
    checkpoints and the folder of the run, which the report is made of. None: steps share artifacts only."""
    default: StepPlacement = StepPlacement()
    steps: dict[str, StepPlacement] = Field(default_factory=dict)
    """Step -> what is different for it; a setting given here takes the place of the default's as a whole."""

    @field_validator("steps")
    @classmethod
    def _known_steps(cls, steps: dict[str, StepPlacement]) -> dict[str, StepPlacement]:
        for name in steps:
            if name not in STEPS:
                raise ValueError(f"{name!r} is no step; expected some of: {', '.join(STEPS)}")
        return steps

    @model_validator(mode="after")
    def _each_step_is_whole(self) -> Self:
        for name in STEPS:
            step = self.of(name)
            if step.accelerators and not step.accelerator:
                raise ValueError(
                    f"steps.{name}: accelerators = {step.accelerators}, but accelerator names no resource; set it to "
                    "nvidia.com/gpu, for example"
                )
            paths = [volume.path.rstrip("/") for volume in step.volumes or ()]
            paths += [self.home.path.rstrip("/")] if self.home else []
            paths += ["/dev/shm"] if step.shared_memory else []  # noqa: S108  of the pod alone
            if twice := sorted({path for path in paths if paths.count(path) > 1}):
                raise ValueError(f"steps.{name}: two volumes are mounted at {twice[0]}; give each its own path")
            if self.home and HOME_VARIABLE in (step.environment or {}):
                raise ValueError(f"steps.{name}: environment sets {HOME_VARIABLE}, which home does; leave one out")
        return self

    def of(self, step: str) -> StepPlacement:
        """The whole placement of a step: its own settings, and the default's where it has none."""
        own = self.steps.get(step, StepPlacement())
        given = {name: getattr(own, name) for name in StepPlacement.model_fields if getattr(own, name) is not None}
        return self.default.model_copy(update=given)

    def is_empty(self) -> bool:
        """Whether graphs stay as they are shipped."""
        return self.home is None and self.default == StepPlacement() and not self.steps
