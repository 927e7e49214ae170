"""Where each task of a graph runs: image, hardware, volumes, secrets, retries, from the section ``placement``.

In: a pipeline as ``pipelines/*.py`` defines it, and the settings. Out: the same pipeline, every task placed, through
KFP's own task methods and ``kfp-kubernetes``. Graphs that ship with the wheel are not placed: a laptop has no pools.
"""

import functools
from collections.abc import Callable
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_context

from rewardloop.config import (
    HOME_VARIABLE,
    STEP_LABEL,
    PlacementSettings,
    RetrySettings,
    StepPlacement,
    TolerationSettings,
)

_POD_FIELDS = {
    # Who this pod is: what a step creates on the cluster belongs to it, and is gone with it.
    "POD_NAME": "metadata.name",
    "POD_UID": "metadata.uid",
    "POD_NAMESPACE": "metadata.namespace",
    # KFP labels pods with the run. A placeholder would do the same, and change the cache key with every run.
    "KFP_RUN_ID": "metadata.labels['pipeline/runid']",
}


def placed(pipeline: Any, placement: PlacementSettings) -> Any:
    """The pipeline, defined once more with every task placed.

    Args:
        pipeline: made by ``dsl.pipeline``.
        placement: where its steps run.
    """
    function: Callable[..., None] = pipeline.pipeline_func

    @functools.wraps(function)
    def graph(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        for task in pipeline_context.Pipeline.get_default_pipeline().tasks.values():
            place(task, placement)

    return dsl.pipeline(name=pipeline.name, description=pipeline.description)(graph)


def place(task: Any, placement: PlacementSettings) -> None:
    """Place one task; its step is known by its component's name."""
    name = task.component_spec.name.replace("-", "_")
    step = placement.of(name)
    kubernetes.add_pod_label(task, STEP_LABEL, name)  # by it NetworkPolicies tell steps apart
    _container(task, step)
    _nodes(task, step)
    _volumes(task, step, placement)
    _environment(task, step, placement)
    if step.retries is not None and step.retries.times:
        _retries(task, step.retries)
    if step.time_limit_seconds is not None:
        kubernetes.set_timeout(task, step.time_limit_seconds)
    if step.cache is False:  # true must not switch it on again where a graph switches it off
        task.set_caching_options(False)


def _container(task: Any, step: StepPlacement) -> None:
    if step.image is not None:
        task.set_container_image(step.image)
    if step.image_pull_policy is not None:
        kubernetes.set_image_pull_policy(task, step.image_pull_policy)
    if step.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(step.image_pull_secrets))
    for value, method in (
        (step.cpu_request, task.set_cpu_request),
        (step.cpu_limit, task.set_cpu_limit),
        (step.memory_request, task.set_memory_request),
        (step.memory_limit, task.set_memory_limit),
    ):
        if value is not None:
            method(value)
    if step.accelerators:
        task.set_accelerator_type(step.accelerator).set_accelerator_limit(step.accelerators)


def _nodes(task: Any, step: StepPlacement) -> None:
    for label, value in (step.node_selector or {}).items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in step.tolerations or ():
        _tolerate(task, toleration)


def _tolerate(task: Any, toleration: TolerationSettings) -> None:
    kubernetes.add_toleration(
        task,
        key=toleration.key,
        operator=toleration.operator,
        value=toleration.value,
        effect=toleration.effect,
        toleration_seconds=toleration.seconds,
    )


def _volumes(task: Any, step: StepPlacement, placement: PlacementSettings) -> None:
    home = (placement.home,) if placement.home else ()
    for volume in (*home, *(step.volumes or ())):
        kubernetes.mount_pvc(task, pvc_name=volume.claim, mount_path=volume.path, sub_path=volume.sub_path)
    if step.shared_memory is not None:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path="/dev/shm",  # noqa: S108  where processes of one pod meet, and of this pod only
            medium="Memory",
            size_limit=step.shared_memory,
        )


def _environment(task: Any, step: StepPlacement, placement: PlacementSettings) -> None:
    home = {HOME_VARIABLE: placement.home.path} if placement.home else {}
    for name, value in (home | (step.environment or {})).items():
        task.set_env_variable(name, value)
    for secret, variables in (step.secrets or {}).items():
        for variable, key in variables.items():  # one by one: a key may fill several variables
            kubernetes.use_secret_as_env(task, secret, {key: variable})
    for name, path in _POD_FIELDS.items():
        kubernetes.use_field_path_as_env(task, name, path)


def _retries(task: Any, retries: RetrySettings) -> None:
    task.set_retry(
        num_retries=retries.times,
        backoff_duration=f"{retries.backoff_seconds}s",
        backoff_factor=retries.backoff_factor,
        backoff_max_duration=f"{retries.max_backoff_seconds}s",
    )
