"""Whether a cluster has what ``placement`` names, and lets runs in: asked of its own interfaces, nothing is created.

In: settings, the endpoint of Kubeflow Pipelines, and a Kubernetes API where one is at hand (around this process, or in
a kubeconfig). Out: ``Finding``s. What this account may not look at is "not checked".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rewardloop.config import Settings
from rewardloop.config.placement import STEPS, StepPlacement
from rewardloop.errors import RewardloopError
from rewardloop.prerequisites import Finding, failed

PIPELINES = "Kubeflow Pipelines"
_KUBERNETES = "Kubernetes"
_RECURRING = "count/scheduledworkflows.kubeflow.org"
_ACCOUNT_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


def check_pipelines(timeout_seconds: float) -> Finding:
    """The endpoint answers, takes the credentials and lists recurring runs."""
    from rewardloop.cli.kubeflow import Kubeflow
    from rewardloop.cli.kubeflow_errors import TOKEN, endpoint

    name, host = endpoint()
    try:
        found = Kubeflow.connect(timeout_seconds=timeout_seconds).recurring_runs()
    except RewardloopError as error:
        return failed(PIPELINES, error, f"{name}, or the token in {TOKEN}")
    words = f"{host or 'the cluster'}: answers and takes these credentials; {len(found)} recurring runs"
    return Finding(PIPELINES, "ok", words)


@dataclass(frozen=True)
class _Cluster:
    """A Kubernetes API and the namespace of the runs."""

    core: Any
    namespace: str
    timeout_seconds: float

    def look(self, check: str, setting: str, call: Callable[..., Any], *names: str) -> Any | Finding:
        """What the API says; a finding where it says no."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        label = " ".join(names) or "list"
        try:
            return call(*names, _request_timeout=self.timeout_seconds)
        except ApiException as error:
            if error.status == 404:
                found = f"{names[0]}: is not in namespace {self.namespace}"
                return Finding(check, "failed", found, f"{setting}, or create it")
            return Finding(check, "not checked", f"{label}: the cluster does not say ({error.status} {error.reason})")
        except HTTPError as error:
            return Finding(check, "not checked", f"{label}: no answer of the cluster ({type(error).__name__})")


def check_placement(settings: Settings, timeout_seconds: float) -> list[Finding]:
    """Secrets, volume claims, service account, nodes and quotas that ``placement`` counts on are there."""
    cluster = _cluster(settings.placement.namespace, timeout_seconds)
    if isinstance(cluster, Finding):
        return [cluster]
    places = {step: settings.placement.of(step) for step in STEPS}
    return [
        *_secrets(cluster, places),
        *_claims(cluster, settings, places),
        *_account(cluster, settings),
        *_nodes(cluster, places),
        *_quotas(cluster, places),
    ]


def _cluster(namespace: str | None, timeout_seconds: float) -> "_Cluster | Finding":
    import urllib3
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    configuration = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=configuration)
            with open(_ACCOUNT_NAMESPACE, encoding="utf-8") as stream:  # noqa: PTH123  as the client reads it
                here = stream.read().strip()
        except (ConfigException, OSError):
            config.load_kube_config(client_configuration=configuration)
            _, context = config.list_kube_config_contexts()
            here = context["context"].get("namespace", "default")
    except (ConfigException, OSError, KeyError, TypeError):
        return Finding(_KUBERNETES, "not checked", "no cluster at hand (no kubeconfig, not in a pod)")
    configuration.retries = urllib3.Retry(0)
    core = client.CoreV1Api(client.ApiClient(configuration))
    return _Cluster(core, namespace or here, timeout_seconds)


def _secrets(cluster: _Cluster, places: dict[str, StepPlacement]) -> Iterator[Finding]:
    wanted: dict[str, set[str]] = {}
    for place in places.values():
        for name, variables in (place.secrets or {}).items():
            wanted.setdefault(name, set()).update(variables.values())
        for name in place.image_pull_secrets or ():
            wanted.setdefault(name, set())
    setting = "placement.*.secrets or image_pull_secrets"
    for name, keys in sorted(wanted.items()):
        found = cluster.look("secret", setting, cluster.core.read_namespaced_secret, name, cluster.namespace)
        if isinstance(found, Finding):
            yield found
        elif missing := sorted(keys - set(found.data or {})):
            yield Finding("secret", "failed", f"{name}: has no key {', '.join(missing)}", "placement.*.secrets")
        else:
            yield Finding("secret", "ok", f"{name}: is there, with every key that steps take")


def _claims(cluster: _Cluster, settings: Settings, places: dict[str, StepPlacement]) -> Iterator[Finding]:
    names = {volume.claim for place in places.values() for volume in place.volumes or ()}
    names |= {settings.placement.home.claim} if settings.placement.home else set()
    for name in sorted(names):
        call = cluster.core.read_namespaced_persistent_volume_claim
        found = cluster.look("PVC", "placement.home or placement.*.volumes", call, name, cluster.namespace)
        if isinstance(found, Finding):
            yield found
        elif found.status.phase == "Lost":
            yield Finding("PVC", "failed", f"{name}: its volume is lost", "the claim itself: restore it from a backup")
        else:
            yield Finding("PVC", "ok", f"{name}: {found.status.phase}, {', '.join(found.spec.access_modes or [])}")


def _account(cluster: _Cluster, settings: Settings) -> Iterator[Finding]:
    name = settings.placement.service_account
    if name:
        call = cluster.core.read_namespaced_service_account
        found = cluster.look("service account", "placement.service_account", call, name, cluster.namespace)
        yield found if isinstance(found, Finding) else Finding("service account", "ok", f"{name}: is there")


def _nodes(cluster: _Cluster, places: dict[str, StepPlacement]) -> Iterator[Finding]:
    """For each kind of node that steps ask for: one that has the labels, and enough accelerators."""
    kinds: dict[tuple[Any, ...], list[str]] = {}
    for step, place in places.items():
        labels = tuple(sorted((place.node_selector or {}).items()))
        count = place.accelerators or 0
        if labels or count:
            kinds.setdefault((labels, place.accelerator if count else None, count), []).append(step)
    if not kinds:
        return
    nodes = cluster.look("node", "placement", cluster.core.list_node)
    if isinstance(nodes, Finding):
        yield nodes
        return
    for (labels, accelerator, count), steps in kinds.items():
        yield _node(nodes.items, dict(labels), accelerator, count, f"placement.steps.{steps[0]}")


def _node(nodes: list[Any], labels: dict[str, str], accelerator: str | None, count: int, place: str) -> Finding:
    fitting = [node for node in nodes if labels.items() <= _labels(node).items()]
    said = ", ".join(f"{key}={value}" for key, value in labels.items()) or "any node"
    if not fitting:
        known = sorted({(key, node.metadata.labels[key]) for node in nodes for key in labels.keys() & _labels(node)})
        values = ", ".join(f"{key}={value}" for key, value in known)
        pool = ", or a pool of nodes: one that scales from 0 shows none"
        found = f"{said}: no node has these labels" + (f"; nodes have {values}" if known else "")
        return Finding("node", "failed", found, f"{place}.node_selector{pool}")
    if accelerator:
        most = max(int((node.status.allocatable or {}).get(accelerator, 0)) for node in fitting)
        if most < count:
            found = f"{said}: asked for {count} {accelerator}, the largest node has {most}"
            return Finding("node", "failed", found, f"{place}.accelerators, accelerator or node_selector")
    return Finding("node", "ok", f"{said}: {len(fitting)} nodes" + (f", {count} {accelerator}" if accelerator else ""))


def _labels(node: Any) -> dict[str, str]:
    return node.metadata.labels or {}


def _quotas(cluster: _Cluster, places: dict[str, StepPlacement]) -> Iterator[Finding]:
    """A namespace's quotas leave room for one more recurring run, and for the largest step's accelerators."""
    call = cluster.core.list_namespaced_resource_quota
    quotas = cluster.look("quota", "placement.namespace", call, cluster.namespace)
    if isinstance(quotas, Finding):
        yield quotas
        return
    needs = {_RECURRING: 1}
    for place in places.values():
        if place.accelerators and place.accelerator:
            key = f"requests.{place.accelerator}"
            needs[key] = max(needs.get(key, 0), place.accelerators)
    for quota in quotas.items:
        hard, used = quota.status.hard or {}, quota.status.used or {}
        for key in needs.keys() & hard.keys():
            left = int(hard[key]) - (int(used.get(key, 0)) if key == _RECURRING else 0)
            words = f"{quota.metadata.name}: {key} = {hard[key]}, {used.get(key, 0)} used"
            if left < needs[key]:
                setting = "schedule.enabled" if key == _RECURRING else "placement.*.accelerators"
                yield Finding(
                    "quota", "failed", f"{words}; {needs[key]} more needed", f"the ResourceQuota, or {setting}"
                )
            else:
                yield Finding("quota", "ok", words)
