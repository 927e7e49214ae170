"""A step's work on several nodes: a TrainJob of Kubeflow Trainer, made by its SDK, waited for, and gone with the step.

In: a job and the section ``distributed``. Out: what the nodes made, in the job's output folder, with the manifest of
the TrainJob; its log is the step's log. The SDK makes the manifest; added is what it has no words for: secrets by
reference, and the step's own pod as owner, so that whoever deletes the pipeline run deletes the TrainJob.

A TrainJob is named after its work: a step that is tried again replaces what an earlier try left, so that two TrainJobs
never write the same checkpoints.
"""

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rewardloop.config import DistributedSettings, StepPlacement
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.training.job import MANIFESTS, WORKER, Job, ended_by_signal
from rewardloop.training.train_job_errors import api_status, in_words
from rewardloop.training.train_job_files import Exchange
from rewardloop.training.train_job_patch import runtime_patch
from rewardloop.training.train_job_watch import Watcher

_GROUP, _VERSION, _PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
_TORCHRUN = ("python", "-m", "torch.distributed.run")
_MAIN = "main"
"""Name of the container of a step in a pod of Kubeflow Pipelines."""


@dataclass(frozen=True)
class OwnPod:
    """The pod that this step runs in; everything empty outside a cluster."""

    name: str = ""
    uid: str = ""
    namespace: str | None = None
    image: str = ""
    secrets: list[dict[str, Any]] = field(default_factory=list)
    """Variables that are filled from secrets, as a container has them."""


def run_train_job(step: str, job: Job, settings: DistributedSettings) -> None:
    """Do the work of ``step`` on ``settings.nodes`` nodes and wait for it.

    Raises:
        BadInputError: what a node found wrong with its input, or the cluster cannot run the TrainJob.
        RewardloopError: the TrainJob failed; with its reason and the last lines of its nodes.
    """
    name = _name(step, job)
    exchange = Exchange(f"{str(settings.exchange).rstrip('/')}/{name}")
    exchange.send(step, job)
    with ended_by_signal(), in_words(settings):
        client, pod = _connect()
        made = _completing(client.backend.custom_api.api_client, pod, _secrets(settings.node, pod))
        client.backend.custom_api = made
        _make_room(client, name, settings)
        try:
            _create(client, name, step, exchange.url, settings, pod)
            _keep_manifest(made.body, Path(job.output), name)
            failure = Watcher(client, name, settings).wait()
        except BaseException:
            _delete(client, name)
            raise
    if failure is not None:
        # A failed TrainJob is left to be looked at; it holds no node, and goes with its owner.
        if refused := exchange.error():
            raise BadInputError(refused)
        raise RewardloopError(f"{step}: {failure}")
    exchange.fetch(Path(job.output))
    exchange.clear()
    with in_words(settings):
        _delete(client, name)


def _name(step: str, job: Job) -> str:
    return f"{step.replace('_', '-')}-{hashlib.sha256(job.checkpoints.encode()).hexdigest()[:10]}"


def _connect() -> tuple[Any, OwnPod]:
    try:
        from kubeflow.trainer import KubernetesBackendConfig, TrainerClient
    except ImportError as error:
        raise BadInputError(
            "distributed.nodes: Kubeflow's SDK is not installed; install rewardloop[cluster], or set it to 1"
        ) from error
    file = os.environ.get("KUBECONFIG") or None
    namespace = os.environ.get("POD_NAMESPACE") or (_namespace(file) if file else None)
    client = TrainerClient(KubernetesBackendConfig(namespace=namespace, config_file=file))
    return client, _own_pod(client)


def _namespace(file: str) -> str | None:
    # The SDK looks for it in the file that was named when Kubernetes' client was imported.
    from kubernetes.config import list_kube_config_contexts

    _, current = list_kube_config_contexts(config_file=file)
    found: str | None = current["context"].get("namespace")
    return found


def _own_pod(client: Any) -> OwnPod:
    name, uid = os.environ.get("POD_NAME", ""), os.environ.get("POD_UID", "")
    if not name or not uid:
        print("no POD_NAME and POD_UID: deleting the pipeline run will not delete the TrainJob", flush=True)
        return OwnPod(namespace=client.backend.namespace)
    pod = client.backend.core_api.read_namespaced_pod(name, client.backend.namespace)
    found = next((one for one in pod.spec.containers if one.name == _MAIN), pod.spec.containers[0])
    plain = client.backend.core_api.api_client.sanitize_for_serialization(found)
    secrets = [one for one in plain.get("env", []) if "secretKeyRef" in one.get("valueFrom", {})]
    return OwnPod(name, uid, client.backend.namespace, str(found.image), secrets)


def _secrets(node: StepPlacement, pod: OwnPod) -> list[dict[str, Any]]:
    if node.secrets is None:
        return pod.secrets
    return [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for secret, variables in node.secrets.items()
        for variable, key in variables.items()
    ]


def _create(client: Any, name: str, step: str, url: str, settings: DistributedSettings, pod: OwnPod) -> None:
    from kubeflow.trainer import CustomTrainerContainer
    from kubeflow.trainer.options import ActiveDeadlineSeconds, Labels, Name, TrainerCommand

    node = settings.node
    image = node.image or pod.image
    if not image:
        raise BadInputError("distributed.node.image: not set, and there is no pod to take it from; set it to an image")
    options: list[Any] = [
        Name(name),
        Labels({"app.kubernetes.io/part-of": "rewardloop", "rewardloop/step": step}),
        # Which nodes there are, and where they meet, the cluster tells torchrun by its environment.
        TrainerCommand([*_TORCHRUN, f"--nproc-per-node={settings.processes_per_node}", "-m", WORKER, url]),
        runtime_patch(node),
    ]
    if settings.deadline_hours is not None:
        options.append(ActiveDeadlineSeconds(round(settings.deadline_hours * 3600)))
    client.train(
        runtime=settings.runtime,
        trainer=CustomTrainerContainer(
            image=image,
            num_nodes=settings.nodes,
            resources_per_node=_resources(node) or None,
            env=dict(node.environment or {}) or None,
        ),
        options=options,
    )
    print(f"TrainJob {client.backend.namespace}/{name}: {settings.nodes} nodes of {image}", flush=True)


def _resources(node: StepPlacement) -> dict[str, int | str]:
    """Kubeflow's SDK asks for what it limits: the limit counts where both are set."""
    found: dict[str, int | str] = {}
    for name, value in (
        ("cpu", node.cpu_limit or node.cpu_request),
        ("memory", node.memory_limit or node.memory_request),
        (node.accelerator or "", node.accelerators),
    ):
        if value:
            found[name] = value
    return found


def _make_room(client: Any, name: str, settings: DistributedSettings) -> None:
    """Delete a TrainJob of an earlier try, and wait until its pods are gone."""
    api, namespace = client.backend.custom_api, client.backend.namespace
    ends = time.monotonic() + settings.start_minutes * 60
    asked = False
    while True:
        try:
            api.get_namespaced_custom_object(_GROUP, _VERSION, namespace, _PLURAL, name)
        except Exception as error:
            if api_status(error) == 404:
                return
            raise
        if not asked:
            print(f"TrainJob {name} of an earlier try is deleted", flush=True)
            # In the foreground: it is there until its pods are gone, and they write checkpoints.
            api.delete_namespaced_custom_object(
                _GROUP, _VERSION, namespace, _PLURAL, name, propagation_policy="Foreground"
            )
            asked = True
        if time.monotonic() > ends:
            raise RewardloopError(
                f"TrainJob {namespace}/{name} of an earlier try is not gone after {settings.start_minutes:g} minutes; "
                "delete it"
            )
        time.sleep(min(settings.poll_seconds, 1.0))


def _delete(client: Any, name: str) -> None:
    try:
        client.delete_job(name)
    except Exception as error:
        if api_status(error) != 404:
            print(f"TrainJob {name} could not be deleted ({error}); it goes with its owner", flush=True)


def _keep_manifest(manifest: dict[str, Any], output: Path, name: str) -> None:
    folder = output / MANIFESTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")


def _completing(api_client: Any, pod: OwnPod, secrets: list[dict[str, Any]]) -> Any:
    """Kubernetes' client of custom resources, which completes a TrainJob as the SDK creates it."""
    from kubernetes.client import CustomObjectsApi

    class Completing(CustomObjectsApi):  # type: ignore[misc]
        """Adds what the SDK has no words for in the one request that makes a TrainJob: it never lacks its owner."""

        body: dict[str, Any]

        def create_namespaced_custom_object(
            self, group: str, version: str, namespace: str, plural: str, body: dict[str, Any], **rest: Any
        ) -> Any:
            """See ``CustomObjectsApi``."""
            self.body = completed(body, pod, secrets)
            return super().create_namespaced_custom_object(group, version, namespace, plural, self.body, **rest)

    return Completing(api_client)


def completed(body: dict[str, Any], pod: OwnPod, secrets: list[dict[str, Any]]) -> dict[str, Any]:
    """The SDK's manifest with variables from ``secrets``, and ``pod`` as its owner."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
    metadata = body["metadata"] | ({"ownerReferences": [owner]} if pod.uid else {})
    trainer = body["spec"]["trainer"]
    env = [*trainer.get("env", []), *secrets]
    spec = body["spec"] | {"trainer": trainer | ({"env": env} if env else {})}
    return body | {"metadata": metadata, "spec": spec}
