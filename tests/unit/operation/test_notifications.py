"""Notifications reach a real receiver, and neither fail nor delay nor betray anything where there is none."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rewardloop.config import NotificationSettings
from rewardloop.operation.notifications import URLS, notify


class _Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: int = 200) -> None:
        self.got: list[dict[str, Any]] = []
        self.answer = answer
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"json://user:secret@127.0.0.1:{self.server_address[1]}/path"


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        if self.server.answer == 0:
            time.sleep(30)
            return
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[_Receiver]:
    server = _Receiver(getattr(request, "param", 200))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_title_and_body_arrive(
    receiver: _Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(URLS, f"  {receiver.url}\n{receiver.url} ")
    notify(NotificationSettings(), "refused", "org: refused", "- accuracy: 0.50 <below> 0.80\n- too long")
    assert [(one["title"], one["message"], one["type"]) for one in receiver.got] == [
        ("org: refused", "- accuracy: 0.50 <below> 0.80\n- too long", "warning")
    ] * 2
    assert capsys.readouterr().err == ""


def test_events_that_nobody_wants_and_no_addresses(receiver: _Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    notify(NotificationSettings(events=("failed",)), "blessed", "title", "body", [receiver.url])
    monkeypatch.delenv(URLS, raising=False)
    notify(NotificationSettings(), "blessed", "title", "body")
    assert receiver.got == []


@pytest.mark.parametrize("receiver", [500], indirect=True)
def test_addresses_that_fail_are_told_without_their_secrets(
    receiver: _Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    addresses = [receiver.url, "json://user:secret@127.0.0.1:1/x", "nothing://secret", "secret"]
    notify(NotificationSettings(), "failed", "title", "body", addresses)
    said = capfd.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("Warning: address 1 of 4 in REWARDLOOP_NOTIFY_URLS (json) was not told of 'failed': ")
    assert "nothing) was not told of 'failed': it is not an address that apprise knows" in lines[2]
    assert "secret" not in said.err + said.out


@pytest.mark.parametrize("receiver", [0], indirect=True)
def test_a_server_that_never_answers_costs_no_more_than_the_time_allowed(
    receiver: _Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    notify(NotificationSettings(timeout_seconds=0.3), "drift", "title", "body", [receiver.url])
    assert time.monotonic() - began < 10  # its own limit is 30 s
    assert "no answer within 0.3 s" in capsys.readouterr().err
