"""Where the nodes of a TrainJob run and what they mount, as a patch of the runtime that the TrainJob names.

In: a node's settings. Out: a ``RuntimePatch`` of Kubeflow's SDK. The variables of nodes are not part of it: Trainer
takes those in ``spec.trainer`` only.
"""

from typing import Any

from rewardloop.config import StepPlacement

NODE = "node"
"""Trainer's name of the replicated job and of its container."""


def runtime_patch(node: StepPlacement) -> Any:
    """Volumes, placement and rights of the nodes."""
    from kubeflow.trainer import options

    volumes, mounts = _volumes(node)
    container = options.ContainerPatch(
        name=NODE,
        volume_mounts=mounts,
        security_context={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    )
    pod = options.PodSpecPatch(
        volumes=volumes,
        containers=[container],
        image_pull_secrets=[{"name": name} for name in node.image_pull_secrets or ()] or None,
        security_context={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        node_selector=dict(node.node_selector or {}) or None,
        tolerations=_tolerations(node) or None,
    )
    job = options.JobTemplatePatch(spec=options.JobSpecPatch(template=options.PodTemplatePatch(spec=pod)))
    replicated = options.ReplicatedJobPatch(name=NODE, template=job)
    job_set = options.JobSetTemplatePatch(spec=options.JobSetSpecPatch(replicated_jobs=[replicated]))
    return options.RuntimePatch(training_runtime_spec=options.TrainingRuntimeSpecPatch(template=job_set))


def _volumes(node: StepPlacement) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    # Nodes keep their copies of what they read here, also where the image's own files cannot be written.
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {}}]
    mounts: list[dict[str, Any]] = [{"name": "scratch", "mountPath": "/tmp"}]  # noqa: S108  of the pod alone
    if node.shared_memory is not None:
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": node.shared_memory}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108  of the pod alone
    for number, volume in enumerate(node.volumes or ()):
        name = f"volume-{number}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": volume.claim}})
        mount = {"name": name, "mountPath": volume.path}
        mounts.append(mount | ({"subPath": volume.sub_path} if volume.sub_path else {}))
    return volumes, mounts


def _tolerations(node: StepPlacement) -> list[dict[str, Any]]:
    names = {"key": "key", "operator": "operator", "value": "value", "effect": "effect", "seconds": "tolerationSeconds"}
    return [
        {names[name]: value for name, value in one.model_dump().items() if value is not None}
        for one in node.tolerations or ()
    ]
