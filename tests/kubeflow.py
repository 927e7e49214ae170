"""Enough of Kubeflow Pipelines' REST API (v2beta1) for its real client, in memory, on 127.0.0.1.

A double of a remote service: nothing of rewardloop is replaced. Filters and pages are served, since the client relies
on them; runs stay PENDING until a test says otherwise.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

_KEYS = {"pipelines": "pipeline_id", "experiments": "experiment_id", "runs": "run_id"}
_KEYS |= {"recurringruns": "recurring_run_id", "versions": "pipeline_version_id"}


@dataclass
class Cluster:
    """What is there; every call that changes something is in ``changes``."""

    url: str = ""
    things: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in _KEYS})
    changes: list[str] = field(default_factory=list)
    token: str | None = None
    """Set: the only one that is let in."""
    broken: bool = False
    """Every call answers 503."""
    refused: tuple[int, str] | None = None
    """Set: every change answers with this status and message, as the API server passes on what Kubernetes refuses."""
    expired: bool = False
    """The token is the right one, and too old."""
    made: int = 0

    def add(self, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        self.made += 1
        now = datetime.fromtimestamp(1.8e9 + self.made, UTC).isoformat().replace("+00:00", "Z")
        whole = thing | {_KEYS[kind]: f"{kind}-{self.made}", "created_at": now}
        self.things[kind].append(whole)
        self.changes.append(f"create {kind} {whole['display_name']}")
        return whole

    def remove(self, kind: str, key: str) -> None:
        self.things[kind] = [one for one in self.things[kind] if one[_KEYS[kind]] != key]
        self.changes.append(f"delete {kind} {key}")

    def finish(self, state: str) -> None:
        """Let every run end so."""
        for run in self.things["runs"]:
            run |= {"state": state, "finished_at": "2027-01-15T08:00:00Z"}


@contextmanager
def kubeflow() -> Iterator[Cluster]:
    """A cluster that answers, until the block ends."""
    cluster = Cluster()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        cluster.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(_app(cluster), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield cluster
        finally:
            server.should_exit = True
            thread.join()


def _app(cluster: Cluster) -> FastAPI:
    app = FastAPI()
    root = "/apis/v2beta1"

    @app.middleware("http")
    async def guard(request: Request, go_on: Any) -> Any:
        if cluster.broken:
            return JSONResponse({"message": "the database is away"}, 503)
        if cluster.token and request.headers.get("authorization") != f"Bearer {cluster.token}":
            return JSONResponse({"message": "no"}, 401)
        if cluster.expired:
            said = "Review.Status.Error: [invalid bearer token, service account token has expired]"
            return JSONResponse({"code": 16, "message": f"Unauthenticated: {said}"}, 401)
        if cluster.refused and request.method != "GET":
            status, said = cluster.refused
            return JSONResponse({"code": 13, "message": said}, status)
        return await go_on(request)

    @app.get(f"{root}/healthz")
    async def healthz() -> dict[str, Any]:
        return {"multi_user": False}

    @app.post(f"{root}/pipelines/upload_version")
    async def upload(name: str, pipelineid: str, request: Request, description: str = "") -> dict[str, Any]:
        head = f"content-type: {request.headers['content-type']}\n\n".encode()
        [part] = message_from_bytes(head + await request.body()).get_payload()
        text = part.get_payload(decode=True).decode()
        thing = {"display_name": name, "pipeline_id": pipelineid, "description": description, "text": text}
        return cluster.add("versions", thing)

    @app.get(f"{root}/pipelines/{{pipeline_id}}/versions")
    async def versions(pipeline_id: str, request: Request) -> dict[str, Any]:
        mine = [one for one in cluster.things["versions"] if one["pipeline_id"] == pipeline_id]
        return _page("pipeline_versions", mine, request)

    @app.get(f"{root}/{{kind}}")
    async def listed(kind: str, request: Request) -> dict[str, Any]:
        return _page("recurringRuns" if kind == "recurringruns" else kind, cluster.things[kind], request)

    @app.post(f"{root}/{{kind}}")
    async def create(kind: str, request: Request) -> dict[str, Any]:
        return cluster.add(kind, await request.json())

    @app.delete(f"{root}/pipelines/{{pipeline_id}}/versions/{{version_id}}")
    async def delete_version(pipeline_id: str, version_id: str) -> dict[str, Any]:
        del pipeline_id
        cluster.remove("versions", version_id)
        return {}

    @app.delete(f"{root}/pipelines/{{pipeline_id}}")
    async def delete_pipeline(pipeline_id: str) -> Any:
        # As the real server: a pipeline goes after its versions.
        if any(one["pipeline_id"] == pipeline_id for one in cluster.things["versions"]):
            return JSONResponse({"code": 9, "message": "the pipeline still has versions"}, 400)
        cluster.remove("pipelines", pipeline_id)
        return {}

    @app.delete(f"{root}/{{kind}}/{{key}}")
    async def delete(kind: str, key: str) -> dict[str, Any]:
        cluster.remove(kind, key)
        return {}

    return app


def _page(word: str, things: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    wanted = json.loads(request.query_params.get("filter") or '{"predicates": []}')["predicates"]
    for predicate in wanted:
        assert (predicate["operation"], predicate["key"]) == (1, "display_name")
        things = [one for one in things if one["display_name"] == predicate["stringValue"]]
    start, size = int(request.query_params.get("page_token") or 0), int(request.query_params.get("page_size") or 10)
    more = {"next_page_token": str(start + size)} if start + size < len(things) else {}
    return {word: things[start : start + size], "total_size": len(things)} | more
