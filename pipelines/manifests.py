"""The same as Kubernetes objects, for those who deploy from a repository (GitOps) instead of over HTTP.

In: a configuration, and the graphs of this checkout. Out: ``pipelines.yaml`` (Pipeline and PipelineVersion, where
Kubeflow Pipelines keeps its pipelines in the Kubernetes API), ``recurring-run.yaml`` and ``kustomization.yaml``.

The recurring run is a CronJob of Kubernetes, not a ScheduledWorkflow: that one names experiment, pipeline and version
by ids which a server makes when they are created, and its controller expects a row of the server's database beside it,
so a file in a repository cannot hold a valid one. What recurs is one command anyway:
``rewardloop trigger --once --submit``.
"""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from components import IMAGE
from pipelines.compile import PIPELINES, on_cluster
from pipelines.deploy import check_settings, settings_text
from pipelines.versions import Package, package
from rewardloop.cli.graphs import deployed_name, digest_of
from rewardloop.cli.kubeflow_errors import ENDPOINTS, TOKEN
from rewardloop.cli.parameters import pipeline_name
from rewardloop.config import HOME_VARIABLE, STEP_LABEL, LoadedSettings, PlacementSettings, Settings, StepPlacement
from rewardloop.errors import BadInputError

_STEP = "submit_when_due"
_SETTINGS = "/etc/rewardloop"
_TOKENS = "/var/run/secrets/kubeflow/pipelines"  # where KFP's own client looks by default
_AUDIENCE = "pipelines.kubeflow.org"
_TOKEN_SECONDS = 7_200
_USER = 10_001  # of the images in docker/
_NAME_LENGTH = 52
_HISTORY = 3  # finished jobs that Kubernetes keeps


def write_manifests(loaded: LoadedSettings, folder: Path, *, endpoint: str) -> list[Path]:
    """Write the three files and return them.

    Args:
        loaded: the checked settings.
        folder: made where it is missing.
        endpoint: Kubeflow Pipelines as a pod reaches it.

    Raises:
        BadInputError: the configuration names places that pods do not reach, or a schedule that Kubernetes has not.
    """
    settings = loaded.settings
    check_settings(settings)
    five_fields(settings.schedule.cron)  # before seconds are spent on compiling
    if len(_name(settings)) > _NAME_LENGTH:
        raise BadInputError(
            f"organization: {settings.organization!r} is too long for manifests: {_name(settings)} has more than the "
            f"{_NAME_LENGTH} characters that Kubernetes gives the name of a CronJob"
        )
    wanted = package(pipeline_name(settings), settings.placement)
    files: dict[str, list[Any]] = {
        "pipelines.yaml": _pipeline(wanted, settings.placement),
        "recurring-run.yaml": [_settings_map(settings), _cron_job(settings, endpoint)],
        "kustomization.yaml": [_kustomization(settings.placement)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, documents in files.items():
        (folder / file).write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    return [folder / file for file in files]


def five_fields(cron: str) -> str:
    """Kubernetes' cron expression of the six fields that Kubeflow Pipelines takes.

    Raises:
        BadInputError: it starts at other seconds than 0, which Kubernetes has not.
    """
    seconds, *rest = cron.split()
    if seconds != "0":
        raise BadInputError(
            f"schedule.cron: {cron!r} starts at second {seconds!r}; a CronJob of Kubernetes has no seconds: make the "
            "first field 0"
        )
    return " ".join(rest).replace("?", "*")


def _pipeline(wanted: Package, placement: PlacementSettings) -> list[Any]:
    """Pipeline and PipelineVersion as KFP's own compiler writes them."""
    name = deployed_name(wanted.pipeline)
    options = KubernetesManifestOptions(
        pipeline_name=name,
        pipeline_version_name=f"{name}-{wanted.version}",
        pipeline_version_display_name=wanted.version,
        namespace=placement.namespace,
        include_pipeline_manifest=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(
            on_cluster(PIPELINES[wanted.pipeline], placement),
            str(file),
            kubernetes_manifest_options=options,
            kubernetes_manifest_format=True,
        )
        pipeline, version = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    # By this ``rewardloop submit`` knows the version, whichever way it came to the cluster.
    version["spec"]["description"] = wanted.description
    return [pipeline, version]


def _settings_map(settings: Settings) -> dict[str, Any]:
    text = settings_text(settings)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        # Named by its content, so that a job never reads half of a change.
        "metadata": _metadata(settings, f"{_name(settings)}-{digest_of(text)}"),
        "immutable": True,
        "data": {"settings.json": text},
    }


def _cron_job(settings: Settings, endpoint: str) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _metadata(settings, _name(settings)),
        "spec": {
            "schedule": five_fields(settings.schedule.cron),
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "suspend": not settings.schedule.enabled,
            "successfulJobsHistoryLimit": _HISTORY,
            "failedJobsHistoryLimit": _HISTORY,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 0,  # the next start looks again anyway
                    "template": {
                        "metadata": {"labels": _labels(settings) | {STEP_LABEL: _STEP}},
                        "spec": _pod(settings, settings.placement.of(_STEP), endpoint),
                    },
                }
            },
        },
    }


def _pod(settings: Settings, step: StepPlacement, endpoint: str) -> dict[str, Any]:
    volumes = [
        {"name": "settings", "configMap": {"name": _settings_map(settings)["metadata"]["name"]}},
        {"name": "temporary", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": _token()}]}},
    ]
    mounts = [
        {"name": "settings", "mountPath": _SETTINGS, "readOnly": True},
        {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108  the root file system is read-only
        {"name": "token", "mountPath": _TOKENS, "readOnly": True},
    ]
    home = (settings.placement.home,) if settings.placement.home else ()
    for number, volume in enumerate((*home, *(step.volumes or ()))):
        volumes.append({"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": volume.claim}})
        sub_path = {"subPath": volume.sub_path} if volume.sub_path else {}
        mounts.append({"name": f"volume-{number}", "mountPath": volume.path, **sub_path})
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": settings.placement.service_account,
        "activeDeadlineSeconds": step.time_limit_seconds,
        "nodeSelector": step.node_selector,
        "tolerations": [_toleration(one.model_dump()) for one in step.tolerations or ()],
        "imagePullSecrets": [{"name": secret} for secret in step.image_pull_secrets or ()],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(settings, step, endpoint) | {"volumeMounts": mounts}],
        "volumes": volumes,
    }
    return {key: value for key, value in pod.items() if value not in (None, [], {})}


def _container(settings: Settings, step: StepPlacement, endpoint: str) -> dict[str, Any]:
    home = {HOME_VARIABLE: settings.placement.home.path} if settings.placement.home else {}
    plain = {ENDPOINTS[0]: endpoint, TOKEN: f"{_TOKENS}/token"} | home | (step.environment or {})
    secret = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
        for name, variables in (step.secrets or {}).items()
        for variable, key in variables.items()
    ]
    asked = {"requests": (step.cpu_request, step.memory_request), "limits": (step.cpu_limit, step.memory_limit)}
    named = {kind: dict(zip(("cpu", "memory"), values, strict=True)) for kind, values in asked.items()}
    resources = {kind: {key: value for key, value in each.items() if value} for kind, each in named.items()}
    pull = {"imagePullPolicy": step.image_pull_policy} if step.image_pull_policy else {}
    return {
        "name": "submit",
        "image": step.image or IMAGE,
        **pull,
        "command": ["python", "-m", "rewardloop.cli.main", "trigger", "--once", "--submit"],
        "args": ["-c", f"{_SETTINGS}/settings.json"],
        "env": [*({"name": key, "value": value} for key, value in plain.items()), *secret],
        "resources": {kind: each for kind, each in resources.items() if each},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _kustomization(placement: PlacementSettings) -> dict[str, Any]:
    namespace = {"namespace": placement.namespace} if placement.namespace else {}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **namespace,
        "resources": ["pipelines.yaml", "recurring-run.yaml"],
    }


def _metadata(settings: Settings, name: str) -> dict[str, Any]:
    namespace = {"namespace": settings.placement.namespace} if settings.placement.namespace else {}
    return {"name": name, **namespace, "labels": _labels(settings)}


def _labels(settings: Settings) -> dict[str, str]:
    return {"app.kubernetes.io/name": "rewardloop", "app.kubernetes.io/instance": settings.organization}


def _name(settings: Settings) -> str:
    return f"rewardloop-{settings.organization}"


def _token() -> dict[str, Any]:
    return {"path": "token", "audience": _AUDIENCE, "expirationSeconds": _TOKEN_SECONDS}


def _toleration(given: dict[str, Any]) -> dict[str, Any]:
    named = given | {"tolerationSeconds": given.pop("seconds")}
    return {key: value for key, value in named.items() if value is not None and key != "seconds"}
