"""The manifests for a cluster: valid, default deny, no more rights than needed, nothing secret in them."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE = ROOT / "base"
_PODS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
_METADATA_SERVICE = ipaddress.ip_address("169.254.169.254")


def _read(path: Path) -> list[dict[str, Any]]:
    return [content for content in yaml.safe_load_all(path.read_text(encoding="utf-8")) if content]


ACCOUNTS = _read(BASE / "serviceaccounts.yaml")
POLICIES = _read(BASE / "networkpolicies.yaml")
# Kustomizations have no apiVersion of Kubernetes' own; configurations of rewardloop have none at all.
OBJECTS = [
    (path, content) for path in sorted(ROOT.rglob("*.yaml")) for content in _read(path) if content.get("kind") in _PODS
]


def _pod(workload: dict[str, Any]) -> dict[str, Any]:
    spec = workload["spec"]
    spec = spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec
    template: dict[str, Any] = spec["template"]
    return template


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for rule in selector.get("matchExpressions", ()):
        found = labels.get(rule["key"])
        fits = {"Exists": found is not None, "In": found in rule.get("values", ())}[rule["operator"]]
        if not fits:
            return False
    return True


@pytest.mark.parametrize("content", [*ACCOUNTS, *POLICIES], ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_each_object_is_what_kubernetes_takes(content: dict[str, Any]) -> None:
    kubernetes_validate.validate(content, "1.31", strict=True)


def test_everything_is_denied_first() -> None:
    (deny,) = (one for one in POLICIES if one["metadata"]["name"] == "default-deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_names_are_asked_by_everybody() -> None:
    for policy in POLICIES:
        if policy["spec"]["podSelector"] == {} and policy["metadata"]["name"] != "default-deny":
            ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
            assert (ports, "ingress" in policy["spec"]) == ({53}, False)


def test_no_policy_reaches_a_nodes_metadata_service_or_listens_to_the_world() -> None:
    for policy in POLICIES:
        for rule in policy["spec"].get("egress", ()):
            for block in (one["ipBlock"] for one in rule.get("to", ()) if "ipBlock" in one):
                left_out = [ipaddress.ip_network(one) for one in block.get("except", ())]
                covered = _METADATA_SERVICE in ipaddress.ip_network(block["cidr"])
                assert not covered or any(_METADATA_SERVICE in one for one in left_out), policy["metadata"]["name"]
                assert rule["ports"], policy["metadata"]["name"]
        for rule in policy["spec"].get("ingress", ()):
            assert rule.get("from"), policy["metadata"]["name"]
            assert not any("ipBlock" in one for one in rule["from"]), policy["metadata"]["name"]


def test_every_pod_has_a_policy_and_an_account_of_its_own() -> None:
    known = {one["metadata"]["name"] for one in ACCOUNTS if one["kind"] == "ServiceAccount"}
    assert OBJECTS
    for path, workload in OBJECTS:
        pod, where = _pod(workload), f"{path.name}: {workload['metadata']['name']}"
        assert pod["spec"]["serviceAccountName"] in known, where
        assert pod["spec"]["automountServiceAccountToken"] is False, where
        labels = pod["metadata"]["labels"]
        own = [one for one in POLICIES if one["spec"]["podSelector"] and _selects(one["spec"]["podSelector"], labels)]
        assert own, where


def test_every_container_is_without_privileges() -> None:
    for path, workload in OBJECTS:
        spec = _pod(workload)["spec"]
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            where = f"{path.name}: {container['name']}"
            context = {**spec["securityContext"], **container["securityContext"]}
            assert context["capabilities"] == {"drop": ["ALL"]}, where
            assert context["runAsNonRoot"], where
            assert context["runAsUser"] > 0, where
            assert context["readOnlyRootFilesystem"], where
            assert not context["allowPrivilegeEscalation"], where
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not any("hostPath" in volume for volume in spec.get("volumes", ())), path.name
        assert not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")), path.name


def test_secrets_are_references() -> None:
    for path, workload in OBJECTS:
        for container in _pod(workload)["spec"]["containers"]:
            for entry in container.get("env", ()):
                secret = re.search(r"PASSWORD|SECRET|TOKEN|KEY|NOTIFY_URLS", entry["name"])
                is_path = str(entry.get("value", "")).startswith("/")
                if secret and not is_path:
                    assert "secretKeyRef" in entry.get("valueFrom", {}), f"{path.name}: {entry['name']}"
    assert not [one for path in ROOT.rglob("*.yaml") for one in _read(path) if one.get("kind") == "Secret"]


def test_nobody_may_do_everything() -> None:
    for role in (one for one in ACCOUNTS if one["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            assert "secrets" not in rule["resources"] or (rule["resourceNames"] and rule["verbs"] == ["get"])
            if role["kind"] == "ClusterRole":
                assert set(rule["verbs"]) <= {"get", "list"}
            # Whoever may make pods, or run commands in them, has every secret of the namespace.
            assert not {"pods/exec", "pods/attach", "serviceaccounts/token"} & set(rule["resources"])
            assert "pods" not in rule["resources"] or set(rule["verbs"]) <= {"get", "list", "watch"}
    bound = {subject["name"] for one in ACCOUNTS if one["kind"].endswith("Binding") for subject in one["subjects"]}
    assert bound == {"rewardloop-steps"}
