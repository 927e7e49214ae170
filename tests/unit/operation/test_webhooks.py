"""Webhooks against the real server on 127.0.0.1: who is believed, what is refused, and that a refusal does nothing."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from standardwebhooks import Webhook

from rewardloop.config import WebhookSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.operation.listener import Listener
from rewardloop.operation.signatures import Replays, Secrets, why_not_signed
from rewardloop.operation.webhooks import Approval, make_app
from rewardloop.storage import Storage, StoreError

_BOUNDED = hypothesis_settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
OLD, NEW = b"the signing secret of last year", b"the signing secret of this year"
STATIC = "the secret of Label Studio"
ENVIRONMENT = {
    "REWARDLOOP_WEBHOOK_SECRETS": " ".join("whsec_" + base64.b64encode(secret).decode() for secret in (OLD, NEW)),
    "REWARDLOOP_LABEL_STUDIO_SECRET": STATIC,
}


@dataclass
class Server:
    """The running server, and what it did."""

    url: str
    storage: Storage
    woken: list[str] = field(default_factory=list)
    approved: list[Approval] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    trouble: list[Exception] = field(default_factory=list)
    """Raised by the next approvals."""

    def approve(self, wanted: Approval, request_id: str) -> str:
        assert request_id
        if self.trouble:
            raise self.trouble.pop()
        self.approved.append(wanted)
        return f"version {wanted.version} is the champion"

    def post(self, route: str, body: bytes, headers: dict[str, str] | None = None) -> requests.Response:
        return requests.post(f"{self.url}/v1/webhooks/{route}", data=body, headers=headers, timeout=10)


def signed(body: bytes, *, name: str = "message", secret: bytes = NEW, at: float | None = None) -> dict[str, str]:
    moment = int(time.time() if at is None else at)
    signature = Webhook(secret).sign(name, datetime.fromtimestamp(moment, UTC), body.decode())
    return {"webhook-id": name, "webhook-timestamp": str(moment), "webhook-signature": signature}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server("", Storage.open(str(tmp_path / "store")))
    app = make_app(
        WebhookSettings(max_body_bytes=1_000, timeout_seconds=0.5),
        Secrets.read(ENVIRONMENT),
        made.storage,
        wake=made.woken.append,
        approve=made.approve,
        say=made.said.append,
    )
    listener = Listener(app, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listener.port}"
    listener.start()
    yield made
    listener.stop()


def test_a_signed_request_wakes_the_watch(server: Server) -> None:
    answer = server.post("trigger", b'{"new": 3}', signed(b'{"new": 3}'))
    assert answer.status_code == 202
    assert server.woken == [f"webhook {answer.json()['request_id']}"]
    assert requests.get(f"{server.url}/healthz", timeout=10).json() == {"status": "ok"}


def test_the_old_secret_counts_while_it_is_replaced(server: Server) -> None:
    assert server.post("trigger", b"{}", signed(b"{}", secret=OLD)).status_code == 202
    several = signed(b"{}", name="several")
    several["webhook-signature"] = f"v1a,nonsense v1 v1,%% {several['webhook-signature']}"
    assert server.post("trigger", b"{}", several).status_code == 202


def test_a_signature_of_another_moment(server: Server) -> None:
    headers = signed(b"{}")
    answer = server.post("trigger", b"{}", headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 10)})
    assert answer.status_code == 401
    assert "does not fit" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()}, "does not fit"),
        ({"webhook-signature": "v1"}, "does not fit"),
        ({"webhook-signature": "\xe9"}, "does not fit"),
        ({"webhook-id": "another"}, "does not fit"),
        ({"webhook-timestamp": "1e9"}, "expected whole seconds"),
        ({"webhook-timestamp": "²"}, "expected whole seconds"),
        ({"webhook-timestamp": "99999999999"}, "in the future; at most 300 s"),
        ({"webhook-id": ""}, "are needed"),
    ],
)
def test_a_wrong_signature(server: Server, change: dict[str, str], why: str) -> None:
    headers = {name: value.encode("latin-1") for name, value in (signed(b"{}") | change).items()}
    answer = requests.post(f"{server.url}/v1/webhooks/trigger", data=b"{}", headers=headers, timeout=10)
    assert answer.status_code == 401
    assert why in answer.json()["detail"]
    assert server.woken == []
    assert server.storage.list("webhooks") == []
    (line,) = server.said
    assert line.startswith("/v1/webhooks/trigger from 127.0.0.1: 401: ")


def test_another_body_an_old_one_and_one_without_text(server: Server) -> None:
    body = b'{"secret": "of somebody"}'
    assert server.post("trigger", body, signed(b"{}")).status_code == 401
    old = server.post("trigger", b"{}", signed(b"{}", at=time.time() - 301))
    assert "old; at most 300 s are allowed" in old.json()["detail"]
    assert server.post("trigger", b"\xff", signed(b"{}")).status_code == 401
    assert server.post("trigger", b"{}").status_code == 401
    assert server.woken == []
    assert "somebody" not in "".join(server.said)


def test_a_replayed_request(server: Server) -> None:
    headers = signed(b"{}")
    assert server.post("trigger", b"{}", headers).status_code == 202
    again = server.post("trigger", b"{}", headers)
    assert (again.status_code, again.json()) == (401, {"detail": "webhook-id: this request was sent before"})
    # Its id counts for all routes, and for another machine that has the same store.
    body = b'{"version": "1", "name": "Ann", "reason": "why not"}'
    assert server.post("approve", body, signed(body)).status_code == 401
    assert not Replays(server.storage, 300).first("message")
    assert len(server.woken) == 1
    assert server.approved == []


def test_eight_at_once_are_one(server: Server) -> None:
    headers, codes = signed(b"{}"), []
    threads = [
        threading.Thread(target=lambda: codes.append(server.post("trigger", b"{}", headers).status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [202] + [401] * 7


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "line 1"),
        (b'{"a": 1,\n}', "line 2"),
        (b"[1]", "expected an object, found list"),
        (b"[" * 900, "not JSON"),
    ],
)
def test_malformed_json(server: Server, body: bytes, why: str) -> None:
    for route, headers in (("trigger", signed(body)), ("label-studio", {"X-Label-Studio-Secret": STATIC})):
        answer = server.post(route, body, headers)
        assert answer.status_code == 400
        assert why in answer.json()["detail"]
    assert server.woken == []


def test_a_body_over_the_limit_is_not_read(server: Server) -> None:
    body = b" " * 1_001
    answer = server.post("trigger", body, signed(body))
    assert answer.status_code == 413
    assert "larger than 1,000 bytes (webhook.max_body_bytes)" in answer.json()["detail"]
    chunked = requests.post(
        f"{server.url}/v1/webhooks/trigger", data=(b" " * 600 for _ in range(2)), headers=signed(body), timeout=10
    )
    assert chunked.status_code == 413
    # A sender without an end gets its answer before it has sent a megabyte.
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/webhooks/trigger HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
        assert b" 413 " in connection.recv(4096)
    assert server.woken == []


def test_a_body_that_does_not_come(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/webhooks/trigger HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert b" 408 " in connection.recv(4096)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/webhooks/trigger HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    assert requests.get(f"{server.url}/healthz", timeout=10).status_code == 200


def test_label_studio(server: Server) -> None:
    body = json.dumps({"action": "ANNOTATION_CREATED"}).encode()
    for headers in ({}, {"X-Label-Studio-Secret": "guess"}, {"X-Label-Studio-Secret": ""}):
        answer = server.post("label-studio", body, headers)
        assert (answer.status_code, answer.json()["detail"]) == (401, "X-Label-Studio-Secret: missing or wrong")
    assert server.woken == []
    answer = server.post("label-studio", body, {"X-Label-Studio-Secret": STATIC})
    assert answer.status_code == 202
    assert server.woken == [f"Label Studio {answer.json()['request_id']}"]


def test_an_approval(server: Server) -> None:
    body = b'{"version": "7", "name": "Ann", "reason": "read forty answers"}'
    answer = server.post("approve", body, signed(body))
    assert (answer.status_code, answer.json()["what"]) == (200, "version 7 is the champion")
    assert server.approved == [Approval(version="7", name="Ann", reason="read forty answers")]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"version": 7, "name": "Ann", "reason": "why"}, "version"),
        ({"version": "champion", "name": "Ann", "reason": "why"}, "version"),
        ({"version": "7", "name": " ", "reason": "why"}, "name"),
        ({"version": "7", "name": "Ann\nBob", "reason": "why"}, "name"),
        ({"version": "7", "name": "Ann"}, "reason"),
        ({"version": "7", "name": "Ann", "reason": "why", "force": True}, "force"),
    ],
)
def test_an_approval_that_is_none(server: Server, content: dict[str, Any], place: str) -> None:
    body = json.dumps(content).encode()
    answer = server.post("approve", body, signed(body))
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(f"{place}: ")
    assert server.approved == []


def test_a_refused_approval_and_one_that_may_be_sent_again(server: Server) -> None:
    body = b'{"version": "7", "name": "Ann", "reason": "why"}'
    server.trouble = [RewardloopError("version 7: does not wait for approval")]
    refused = server.post("approve", body, signed(body, name="first"))
    assert (refused.status_code, refused.json()["detail"]) == (409, "version 7: does not wait for approval")
    server.trouble = [StoreError("history/000007.json: cannot be written: the store did not answer")]
    later = server.post("approve", body, signed(body, name="late"))
    assert (later.status_code, server.post("approve", body, signed(body, name="late")).status_code) == (503, 200)
    server.approved.clear()
    server.trouble = [ConnectionError("the registry at http://user:password@registry is away")]
    away = server.post("approve", body, signed(body, name="second"))
    assert (away.status_code, away.json()["detail"]) == (503, "it could not be done now; send it again")
    assert server.post("approve", body, signed(body, name="second")).status_code == 200
    assert server.post("approve", body, signed(body, name="second")).status_code == 401
    assert len(server.approved) == 1


def test_a_store_that_cannot_keep_ids(server: Server) -> None:
    Path(server.storage.root).write_text("no folder")
    answer = server.post("trigger", b"{}", signed(b"{}"))
    assert answer.status_code == 503
    assert server.woken == []


def test_ids_are_forgotten_when_their_requests_are_too_old(tmp_path: Path) -> None:
    replays = Replays(Storage.open(str(tmp_path)), tolerance_seconds=0.01)
    assert replays.first("a")
    time.sleep(0.1)
    assert not replays.first("a")
    # Another process looks when it begins.
    assert Replays(Storage.open(str(tmp_path)), tolerance_seconds=0.01).first("a")


def test_a_window_wider_than_five_minutes() -> None:
    headers = signed(b"{}", at=1_000_000)
    given = {
        "message_id": headers["webhook-id"],
        "timestamp": headers["webhook-timestamp"],
        "signature": headers["webhook-signature"],
    }
    keys = Secrets.read(ENVIRONMENT).signing
    assert why_not_signed(keys, b"{}", **given, tolerance_seconds=900, now=1_000_900) is None
    assert why_not_signed(keys, b"{}", **given, tolerance_seconds=900, now=999_100) is None
    assert "901 s old" in str(why_not_signed(keys, b"{}", **given, tolerance_seconds=900, now=1_000_901))
    assert "11 s in the future" in str(why_not_signed(keys, b"{}", **given, tolerance_seconds=10, now=999_989))


def test_routes_without_a_secret_do_not_exist(tmp_path: Path) -> None:
    def routes(**environment: str) -> set[str]:
        storage = Storage.open(str(tmp_path))
        app = make_app(
            WebhookSettings(), Secrets.read(environment), storage, wake=print, approve=lambda *_: "", say=print
        )
        return set(app.openapi()["paths"])

    signed_only = routes(REWARDLOOP_WEBHOOK_SECRETS=ENVIRONMENT["REWARDLOOP_WEBHOOK_SECRETS"])
    assert signed_only == {"/healthz", "/v1/webhooks/trigger", "/v1/webhooks/approve"}
    assert routes(REWARDLOOP_LABEL_STUDIO_SECRET=STATIC) == {"/healthz", "/v1/webhooks/label-studio"}


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "nobody may send anything; set REWARDLOOP_WEBHOOK_SECRETS"),
        ({"REWARDLOOP_WEBHOOK_SECRETS": "whsec_$$$"}, "number 1 is not base64"),
        ({"REWARDLOOP_WEBHOOK_SECRETS": "whsec_c2hvcnQ="}, "number 1 has 5 bytes"),
        ({"REWARDLOOP_LABEL_STUDIO_SECRET": "short"}, "REWARDLOOP_LABEL_STUDIO_SECRET: has 5 characters"),
    ],
)
def test_secrets_that_are_none(environment: dict[str, str], why: str) -> None:
    with pytest.raises(BadInputError, match=why.replace("$", r"\$")) as error:
        Secrets.read(environment)
    assert not any(value in str(error.value) for value in environment.values())
    assert "secret of" not in repr(Secrets.read(ENVIRONMENT))


def test_a_port_that_is_taken(server: Server) -> None:
    port = int(server.url.rpartition(":")[2])
    app = make_app(
        WebhookSettings(), Secrets.read(ENVIRONMENT), server.storage, wake=print, approve=lambda *_: "", say=print
    )
    with pytest.raises(BadInputError, match=f"--listen 127.0.0.1:{port}: cannot listen there: Address already in use"):
        Listener(app, "127.0.0.1", port)


@pytest.mark.parametrize("believed", [False, True])
def test_the_document_is_kept(server: Server, believed: bool) -> None:
    """Random requests by the OpenAPI document, of strangers and of senders who sign: no 5xx, nothing undocumented."""
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = [not_a_server_error, status_code_conformance, response_schema_conformance, content_type_conformance]
    count = 0

    def send(case: schemathesis.Case) -> None:
        nonlocal count
        count += 1
        if not believed or case.method != "POST":
            case.call_and_validate(checks=checks)
            return
        body = json.dumps(case.body if isinstance(case.body, dict | list | str) else {}).encode()
        headers = signed(body, name=f"message {count}") | {"X-Label-Studio-Secret": STATIC}
        answer = requests.post(f"{server.url}{case.path}", data=body, headers=headers, timeout=10)
        case.validate_response(answer, checks=checks)
        assert answer.status_code in (200, 202, 400, 413), answer.text

    for operation in document.get_all_operations():
        _BOUNDED(given(case=operation.ok().as_strategy())(send))()
    assert bool(server.approved) == bool(server.woken) == believed
