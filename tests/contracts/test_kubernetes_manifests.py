"""``deploy/kubernetes``: valid by Kubernetes' own schemas, restricted, with secrets by reference only, and whole."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rewardloop.config import load_settings

_ROOT = Path("deploy/kubernetes")
_OVERLAYS = ("dev", "prod")
_MANIFESTS = sorted(
    path for path in _ROOT.rglob("*.yaml") if path.name not in ("kustomization.yaml", "rewardloop.yaml")
)
_KUSTOMIZATIONS = sorted(_ROOT.rglob("kustomization.yaml"))
_VERSIONS = (
    "1.30.0",
    kubernetes_validate.utils.all_versions()[-1],
)  # the runbook's oldest, and the newest
_OF_THE_CLUSTER = ("Namespace", "ClusterRole", "ClusterRoleBinding")
_SECRETS = {
    "mlflow-database": {"host", "port", "database", "user", "password"},
    "mlflow-object-store": {"access-key", "secret-key"},
    "rewardloop-object-store": {"access-key", "secret-key"},
    "rewardloop-labeler-key": {"key"},
    "rewardloop-api-keys": {"api-keys"},
    "rewardloop-notifications": {"urls"},
}


def _objects(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def _pods(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Specs of the pods that an object makes."""
    spec = one.get("spec", {})
    if one["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if "template" in spec:
        yield spec["template"]["spec"]


_WORKLOADS = [
    pytest.param(pod, id=f"{path.parent.name}/{one['metadata']['name']}")
    for path in _MANIFESTS
    for one in _objects(path)
    for pod in _pods(one)
]


@pytest.mark.parametrize("path", _MANIFESTS, ids=str)
def test_manifests_are_valid_in_old_and_new_versions(path: Path) -> None:
    for one in _objects(path):
        for version in _VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)


def test_an_invalid_manifest_is_found() -> None:
    (one, *_) = _objects(_ROOT / "base" / "serve.yaml")
    one["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(one, _VERSIONS[-1], strict=True)


@pytest.mark.parametrize("path", _KUSTOMIZATIONS, ids=str)
def test_what_a_kustomization_names_is_there_and_the_other_way_round(path: Path) -> None:
    content, folder = yaml.safe_load(path.read_text(encoding="utf-8")), path.parent
    named = [*content.get("resources", []), *content.get("components", [])]
    named += [name for one in content.get("configMapGenerator", []) for name in one.get("files", [])]
    for name in named:
        place = folder / name
        assert place.is_file() or (place / "kustomization.yaml").is_file(), name
    assert {one.name for one in folder.glob("*.yaml")} - {"kustomization.yaml"} == {
        name for name in named if (folder / name).is_file()
    }


@pytest.mark.parametrize("pod", _WORKLOADS)
def test_pods_are_restricted(pod: dict[str, Any]) -> None:
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" in pod
    assert not any("hostPath" in volume for volume in pod.get("volumes", []))
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("pod", _WORKLOADS)
def test_secrets_are_references_that_the_runbook_makes(pod: dict[str, Any]) -> None:
    runbook = Path("docs/runbook.md").read_text(encoding="utf-8")
    for container in pod["containers"]:
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            secret = any(word in variable["name"] for word in ("PASSWORD", "SECRET", "ACCESS_KEY", "LABELER", "URLS"))
            assert secret <= (source is not None), variable["name"]
            if source:
                assert source["key"] in _SECRETS[source["name"]]
                assert f"create secret generic {source['name']} " in runbook
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            assert volume["secret"]["secretName"] in _SECRETS
    assert "Secret" not in {one["kind"] for path in _MANIFESTS for one in _objects(path)}


@pytest.fixture(scope="module", params=_OVERLAYS)
def built(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What ``kubectl apply -k`` would send."""
    kubectl, kustomize = shutil.which("kubectl"), shutil.which("kustomize")
    command = [kubectl, "kustomize"] if kubectl else [kustomize, "build"] if kustomize else None
    if command is None:
        pytest.skip("no kubectl and no kustomize")
    done = subprocess.run(
        [*command, str(_ROOT / "overlays" / request.param)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_built_objects_are_valid_and_fit_together(built: list[dict[str, Any]]) -> None:
    for one in built:
        kubernetes_validate.validate(one, _VERSIONS[-1], strict=True)
        assert one["kind"] in _OF_THE_CLUSTER or one["metadata"]["namespace"] == "rewardloop"
    names = {(one["kind"], one["metadata"]["name"]) for one in built}
    for one in built:
        for pod in _pods(one):
            assert ("ServiceAccount", pod["serviceAccountName"]) in names
            for kind, name in _wanted(pod):
                assert (kind, name) in names, f"{one['metadata']['name']} wants {kind} {name}"
            for container in pod["containers"]:
                assert ":" in container["image"], container["image"]
                assert not container["image"].endswith(":latest")


def _wanted(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in pod["containers"]:
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {}).get("configMapKeyRef")
            if source:
                yield "ConfigMap", source["name"]


def test_selectors_find_their_pods(built: list[dict[str, Any]]) -> None:
    labels = [
        one["spec"]["template"]["metadata"]["labels"] for one in built if one["kind"] in ("Deployment", "StatefulSet")
    ]
    for one in built:
        if one["kind"] in ("Service", "PodDisruptionBudget"):
            selector = one["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= found.items() for found in labels), json.dumps(one["metadata"])


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_settings_are_read_and_store_and_home_are_the_cluster_s(overlay: str) -> None:
    settings = load_settings(_ROOT / "overlays" / overlay / "rewardloop.yaml").settings
    assert settings.store.url.startswith("s3://")
    assert settings.home == "/srv/rewardloop"


def test_image_has_the_user_that_the_manifests_name() -> None:
    assert "USER 10001:10001" in Path("docker/cpu.Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["mlflow", "psycopg2-binary", "boto3", "s3fs"])
def test_image_has_what_mlflow_s_server_needs(name: str) -> None:
    """PostgreSQL's driver, and boto3: MLflow reads s3:// through it, the feedback store through s3fs."""
    assert f"\n{name}==" in Path("docker/cpu.lock").read_text(encoding="utf-8")
