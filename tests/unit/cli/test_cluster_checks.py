"""What ``rewardloop doctor`` finds out about a cluster, from servers that speak its interfaces on 127.0.0.1."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from rewardloop.cli.cluster_checks import check_pipelines, check_placement
from rewardloop.cli.image_check import check_image, parts
from rewardloop.config import Settings
from rewardloop.prerequisites import Finding
from tests.kubeflow import kubeflow

ROOT = "/api/v1/namespaces/rlhf"
GPU = "nvidia.com/gpu"


class Server:
    """Answers GET and HEAD from a table of path -> (status, content, headers)."""

    def __init__(self) -> None:
        self.url = ""
        self.there: dict[str, Any] = {}
        self.token: str | None = None

    def look(self, path: str, token: str | None) -> tuple[int, Any, dict[str, str]]:
        if self.token and token != f"Bearer {self.token}" and path.startswith("/v2/"):
            challenge = f'Bearer realm="{self.url}/token",service="registry",scope="repository:x:pull"'
            return 401, {}, {"WWW-Authenticate": challenge}
        if path in self.there:
            return 200, self.there[path], {}
        return 404, {"kind": "Status", "reason": "NotFound"}, {}


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content, headers = one.look(self.path.partition("?")[0], self.headers.get("Authorization"))
            text = json.dumps(content).encode()
            self.send_response(status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(text))} | headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        one.url = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield one
        finally:
            http.shutdown()


@pytest.fixture
def cluster(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A kubeconfig that leads to the server; the namespace has what the test puts there."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "rlhf"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    # The client reads the variable when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    server.there[f"{ROOT}/resourcequotas"] = items()
    return server


def items(*things: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": list(things)}


def node(labels: dict[str, str], gpus: int) -> dict[str, Any]:
    return {"metadata": {"name": "n", "labels": labels}, "status": {"allocatable": {GPU: str(gpus), "cpu": "8"}}}


def settings(**placement: Any) -> Settings:
    return Settings.model_validate({"organization": "o", "model": {"base": "random:tiny"}, "placement": placement})


def found(placement: Settings) -> dict[str, tuple[str, str, str]]:
    return {one.check: (one.state, one.found, one.mend) for one in check_placement(placement, 5)}


def test_everything_is_there(cluster: Server) -> None:
    cluster.there |= {
        f"{ROOT}/secrets/s3": {"metadata": {"name": "s3"}, "data": {"key": "eA=="}},
        f"{ROOT}/persistentvolumeclaims/home": {
            "metadata": {"name": "home"}, "spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}
        },
        f"{ROOT}/serviceaccounts/runner": {"metadata": {"name": "runner"}},
        "/api/v1/nodes": items(node({"pool": "gpu"}, 2), node({"pool": "cpu"}, 0)),
    }  # fmt: skip
    wanted = settings(
        service_account="runner",
        home={"claim": "home", "path": "/home/rewardloop"},
        default={"secrets": {"s3": {"AWS_ACCESS_KEY_ID": "key"}}},
        steps={"align_policy": {"accelerator": GPU, "accelerators": 2, "node_selector": {"pool": "gpu"}}},
    )
    assert {one[0] for one in found(wanted).values()} == {"ok"}
    assert set(found(wanted)) == {"secret", "PVC", "service account", "node"}


def test_what_is_missing_is_named_with_its_setting(cluster: Server) -> None:
    cluster.there["/api/v1/nodes"] = items(node({"gpu": "t4"}, 1))
    cluster.there[f"{ROOT}/resourcequotas"] = items(
        {
            "metadata": {"name": "team"},
            "status": {
                "hard": {"count/scheduledworkflows.kubeflow.org": "3", "requests.nvidia.com/gpu": "1"},
                "used": {"count/scheduledworkflows.kubeflow.org": "3"},
            },
        }
    )
    wanted = settings(
        home={"claim": "home", "path": "/home/rewardloop"},
        default={"secrets": {"s3": {"AWS_ACCESS_KEY_ID": "key"}}},
        steps={"align_policy": {"accelerator": GPU, "accelerators": 2, "node_selector": {"gpu": "h100"}}},
    )
    seen = found(wanted)
    assert seen["PVC"] == (
        "failed", "home: is not in namespace rlhf", "placement.home or placement.*.volumes, or create it"
    )  # fmt: skip
    assert seen["secret"][:2] == ("failed", "s3: is not in namespace rlhf")
    assert seen["node"][:2] == ("failed", "gpu=h100: no node has these labels; nodes have gpu=t4")
    assert seen["node"][2].startswith("placement.steps.align_policy.node_selector")
    quotas = [one for one in check_placement(wanted, 5) if one.check == "quota"]
    assert {one.state for one in quotas} == {"failed"}
    assert any("scheduledworkflows.kubeflow.org = 3, 3 used; 1 more needed" in one.found for one in quotas)


def test_a_key_that_the_secret_has_not_and_too_small_nodes(cluster: Server) -> None:
    cluster.there |= {
        f"{ROOT}/secrets/s3": {"metadata": {"name": "s3"}, "data": {"other": "eA=="}},
        "/api/v1/nodes": items(node({}, 1)),
    }
    seen = found(
        settings(
            default={"secrets": {"s3": {"AWS_ACCESS_KEY_ID": "key"}}},
            steps={"align_policy": {"accelerator": GPU, "accelerators": 4}},
        )
    )
    assert seen["secret"][1] == "s3: has no key key"
    assert seen["node"][1] == f"any node: asked for 4 {GPU}, the largest node has 1"


def test_no_cluster_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    [one] = check_placement(settings(service_account="x"), 5)
    assert one == Finding("Kubernetes", "not checked", "no cluster at hand (no kubeconfig, not in a pod)")


def test_a_cluster_that_is_gone_is_not_a_missing_secret(cluster: Server, tmp_path: Path) -> None:
    text = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(text.replace(cluster.url, "http://127.0.0.1:9"))
    for one in check_placement(settings(service_account="runner"), 5):
        assert one.state == "not checked"
        assert "no answer of the cluster" in one.found


def test_pipelines_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KF_PIPELINES_SA_TOKEN_PATH", raising=False)
    with kubeflow() as one:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", one.url)
        assert check_pipelines(5).state == "ok"
        one.token = "another"
        refused = check_pipelines(5)
    assert refused.state == "failed"
    assert "refuses these credentials" in refused.found
    assert refused.mend == "KF_PIPELINES_ENDPOINT, or the token in KF_PIPELINES_SA_TOKEN_PATH"
    silent = check_pipelines(1)
    assert silent.state == "failed"
    assert "no Kubeflow Pipelines answers" in silent.found


def test_image_in_its_registry(server: Server) -> None:
    host = server.url.removeprefix("http://")
    server.there |= {"/v2/team/rewardloop/manifests/1.0": {}, "/token": {"token": "guest"}}
    assert check_image(f"{host}/team/rewardloop:1.0", "x", timeout_seconds=5).state == "ok"
    missing = check_image(f"{host}/team/rewardloop:2.0", "placement.default.image", timeout_seconds=5)
    assert (missing.state, missing.mend) == ("failed", "placement.default.image")
    assert "image not found" in missing.found
    server.token = "guest"  # what the registry gives to everybody
    assert check_image(f"{host}/team/rewardloop:1.0", "x", timeout_seconds=5).state == "ok"
    server.token = "members"
    assert check_image(f"{host}/team/rewardloop:1.0", "x", timeout_seconds=5).state == "not checked"
    assert check_image("127.0.0.1:9/a:1", "x", timeout_seconds=5).state == "not checked"


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("python", ("registry-1.docker.io", "library/python", "latest")),
        ("org/app:2", ("registry-1.docker.io", "org/app", "2")),
        ("ghcr.io/org/team/app:2", ("ghcr.io", "org/team/app", "2")),
        ("localhost:5000/app", ("localhost:5000", "app", "latest")),
        ("ghcr.io/org/app:2@sha256:ab", ("ghcr.io", "org/app", "sha256:ab")),
    ],
)
def test_names_of_images_are_completed(image: str, wanted: tuple[str, str, str]) -> None:
    assert parts(image) == wanted
