"""Enough of a Kubernetes API with Kubeflow Trainer for their real clients, in memory, on 127.0.0.1.

A double of a remote service: nothing of rewardloop is replaced. What the cluster does with a TrainJob the test says: a
``Play`` gives the nodes' states and logs, or ``run_nodes`` starts each node's own command, with the variables that
Trainer's torch plugin sets.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

NAMESPACE = "team"
OWN_POD = {
    "metadata": {"name": "step-pod", "uid": "uid-of-the-step", "namespace": NAMESPACE},
    "spec": {
        "containers": [
            {"name": "wait", "image": "argoexec:v3"},
            {
                "name": "main",
                "image": "registry/rewardloop-gpu:1",
                "env": [
                    {"name": "KFP_POD_NAME", "value": "step-pod"},
                    {
                        "name": "AWS_SECRET_ACCESS_KEY",
                        "valueFrom": {"secretKeyRef": {"name": "store", "key": "secret"}},
                    },
                ],
            },
        ]
    },
}
_RUNTIME = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "ClusterTrainingRuntime",
    "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}},
    "spec": {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                            "spec": {
                                "template": {"spec": {"containers": [{"name": "node", "image": "pytorch/pytorch"}]}}
                            },
                        },
                    }
                ]
            }
        },
    },
}


@dataclass
class Node:
    """A pod of a TrainJob."""

    name: str
    index: int
    phase: str = "Pending"
    log: list[str] = field(default_factory=list)

    def as_pod(self, job: str) -> dict[str, Any]:
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(self.index),
        }
        return {
            "metadata": {"name": self.name, "labels": labels, "creationTimestamp": "2026-11-21T12:00:00Z"},
            "spec": {"containers": [{"name": "node", "image": "i"}]},
            "status": {"phase": self.phase},
        }


@dataclass
class Cluster:
    """What is there, and every call that changes something."""

    play: Callable[["Cluster", str], None] = lambda cluster, name: None
    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, list[Node]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of created TrainJobs, as they came."""
    refusal: tuple[int, str] | None = None
    """Every change is answered so."""
    away: bool = False
    """Every call answers 503."""

    def end(self, name: str, kind: str, reason: str = "", message: str = "") -> None:
        """Give a TrainJob its last condition, ``Complete`` or ``Failed``."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        condition["lastTransitionTime"] = "2026-11-21T12:10:00Z"
        self.jobs[name]["status"] = {"conditions": [condition]}

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads here."""
        path = folder / "kubeconfig"
        context = {"cluster": "here", "user": "me", "namespace": NAMESPACE}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "contexts": [{"name": "here", "context": context}],
            "users": [{"name": "me", "user": {"token": "t"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path


@contextmanager
def trainer_cluster(play: Callable[[Cluster, str], None] = lambda cluster, name: None) -> Iterator[Cluster]:
    """A cluster that answers, until the block ends; ``play`` is called in a thread for each new TrainJob."""
    cluster = Cluster(play)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        cluster.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(_app(cluster), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield cluster
        finally:
            server.should_exit = True
            thread.join()


def run_nodes(cluster: Cluster, name: str) -> None:
    """Start the command of each node on this machine, as Trainer's torch plugin would."""
    trainer = cluster.jobs[name]["spec"]["trainer"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    count = trainer["numNodes"]
    cluster.nodes[name] = [Node(f"{name}-node-{index}", index, "Running") for index in range(count)]
    given = {one["name"]: one["value"] for one in trainer.get("env", []) if "value" in one}
    meeting = {"PET_NNODES": str(count), "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
    command = [sys.executable, *trainer["command"][1:]]
    processes = [
        subprocess.Popen(
            command, env=os.environ | given | meeting | {"PET_NODE_RANK": str(node.index), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for node in cluster.nodes[name]
    ]  # fmt: skip

    def listen(node: Node, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        node.log.extend(line.rstrip("\n") for line in process.stdout)
        node.phase = "Failed" if process.wait() else "Succeeded"

    threads = [
        threading.Thread(target=listen, args=pair) for pair in zip(cluster.nodes[name], processes, strict=True)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if name in cluster.jobs:
        failed = [node.name for node in cluster.nodes[name] if node.phase == "Failed"]
        cluster.end(name, "Failed" if failed else "Complete", "JobFailed" if failed else "Done", " ".join(failed))


def _app(cluster: Cluster) -> FastAPI:
    app = FastAPI()
    trainer = "/apis/trainer.kubeflow.org/v1alpha1"
    jobs = f"{trainer}/namespaces/{NAMESPACE}/trainjobs"

    @app.middleware("http")
    async def guard(request: Request, go_on: Any) -> Any:
        if cluster.away:
            return _status(503, "the API is away")
        if request.method != "GET":
            cluster.calls.append(f"{request.method} {request.url.path.removeprefix(trainer)}")
            if cluster.refusal:
                return _status(*cluster.refusal)
        return await go_on(request)

    @app.get(f"{trainer}/clustertrainingruntimes/{{name}}")
    async def runtime(name: str) -> Any:
        return _RUNTIME if name == "torch-distributed" else _status(404, f"no runtime {name}")

    @app.post(jobs)
    async def create(request: Request) -> Any:
        body = await request.json()
        name = body["metadata"]["name"]
        if name in cluster.jobs:
            return _status(409, f"{name} already exists")
        cluster.made.append(body)
        set_by_server = {"namespace": NAMESPACE, "creationTimestamp": "2026-11-21T12:00:00Z", "uid": "u"}
        cluster.jobs[name] = body | {"metadata": body["metadata"] | set_by_server}
        threading.Thread(target=cluster.play, args=(cluster, name), daemon=True).start()
        return cluster.jobs[name]

    @app.get(f"{jobs}/{{name}}")
    async def job(name: str) -> Any:
        return cluster.jobs.get(name) or _status(404, f"no TrainJob {name}")

    @app.delete(f"{jobs}/{{name}}")
    async def delete(name: str) -> Any:
        cluster.nodes.pop(name, None)
        return {} if cluster.jobs.pop(name, None) else _status(404, f"no TrainJob {name}")

    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"

    @app.get(pods)
    async def listed(request: Request) -> Any:
        name = request.query_params["labelSelector"].split(",")[0].partition("=")[2]
        return {"items": [node.as_pod(name) for node in cluster.nodes.get(name, [])]}

    @app.get(f"{pods}/{{name}}")
    async def pod(name: str) -> Any:
        return OWN_POD if name == "step-pod" else _status(404, f"no pod {name}")

    @app.get(f"{pods}/{{name}}/log")
    async def log(name: str, follow: bool = False, tailLines: int | None = None) -> Any:
        found = next((node for nodes in cluster.nodes.values() for node in nodes if node.name == name), None)
        if found is None:
            return _status(404, f"no pod {name}")
        if not follow:
            return PlainTextResponse("".join(f"{line}\n" for line in found.log[-(tailLines or 0) :]))
        return StreamingResponse(_follow(found), media_type="text/plain")

    @app.get(f"/api/v1/namespaces/{NAMESPACE}/events")
    async def events() -> Any:
        return {"items": cluster.events}

    return app


async def _follow(node: Node) -> AsyncIterator[str]:
    sent = 0
    while True:
        ended = node.phase in ("Succeeded", "Failed")
        while sent < len(node.log):
            yield f"{node.log[sent]}\n"
            sent += 1
        if ended:
            return
        await anyio.sleep(0.02)


def _status(code: int, message: str) -> JSONResponse:
    return JSONResponse({"kind": "Status", "status": "Failure", "message": message, "code": code}, code)
