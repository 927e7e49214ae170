"""Notifications reach a real receiver, and neither fail nor delay nor betray anything where there is none."""

import time
from collections.abc import Iterator

import pytest

from rewardloop.config import NotificationSettings
from rewardloop.reporting.notifications import URLS, notify
from tests.receiver import Receiver, receiving


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    with receiving(getattr(request, "param", 200)) as server:
        yield server


def test_title_and_body_arrive(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(URLS, f"  {receiver.url}\n{receiver.url} ")
    notify(NotificationSettings(), "refused", "org: refused", "- accuracy: 0.50 <below> 0.80\n- too long")
    assert [(one["title"], one["message"], one["type"]) for one in receiver.got] == [
        ("org: refused", "- accuracy: 0.50 <below> 0.80\n- too long", "warning")
    ] * 2
    assert capsys.readouterr().err == ""


def test_events_that_nobody_wants_and_no_addresses(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    notify(NotificationSettings(events=("failed",)), "blessed", "title", "body", [receiver.url])
    monkeypatch.delenv(URLS, raising=False)
    notify(NotificationSettings(), "blessed", "title", "body")
    assert receiver.got == []


@pytest.mark.parametrize("receiver", [500], indirect=True)
def test_addresses_that_fail_are_told_without_their_secrets(
    receiver: Receiver, capfd: pytest.CaptureFixture[str]
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
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    notify(NotificationSettings(timeout_seconds=0.3), "drift", "title", "body", [receiver.url])
    assert time.monotonic() - began < 10  # its own limit is 30 s
    assert "no answer within 0.3 s" in capsys.readouterr().err
