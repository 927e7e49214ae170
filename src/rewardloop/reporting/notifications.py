"""People are told what happened: by mail, Slack, Teams, a webhook, or whatever else ``apprise`` has an address for.

In: an event, a title and a body. Out: messages to the addresses in ``REWARDLOOP_NOTIFY_URLS``. Nobody who works waits
for them for long, nothing fails by them, and addresses, which hold passwords, are never shown.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence

from rewardloop.config import NotificationSettings
from rewardloop.config.operation import Event

URLS = "REWARDLOOP_NOTIFY_URLS"
_BAD_EVENTS = {"refused", "failed", "drift"}


def notify(
    settings: NotificationSettings, event: Event, title: str, body: str, urls: Sequence[str] | None = None
) -> None:
    """Tell every address; never raises, and takes no longer than ``timeout_seconds``.

    Args:
        settings: which events people want to hear of, and how long to wait.
        event: what happened.
        title: one line.
        body: plain text.
        urls: apprise's addresses; None: those of ``REWARDLOOP_NOTIFY_URLS``, separated by white space.
    """
    wanted = os.environ.get(URLS, "").split() if urls is None else list(urls)
    if not wanted or event not in settings.events:
        return
    done: dict[int, str | None] = {}

    def tell(place: int, url: str) -> None:
        try:
            done[place] = _send(url, event, title, body)
        except Exception as error:  # a plugin's mistake; its message may hold the address
            done[place] = type(error).__name__

    # Daemons: a server that never answers must not keep the process alive either.
    threads = [threading.Thread(target=tell, args=one, daemon=True) for one in enumerate(wanted)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + settings.timeout_seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    for place, url in enumerate(wanted):
        why = done.get(place, f"no answer within {settings.timeout_seconds:g} s")
        if why:
            kind = url.partition("://")[0] if "://" in url else "no address"
            print(
                f"Warning: address {place + 1} of {len(wanted)} in {URLS} ({kind}) was not told of {event!r}: {why}",
                file=sys.stderr,
                flush=True,
            )


def _send(url: str, event: Event, title: str, body: str) -> str | None:
    """Why the message did not go; None when it did."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its own messages name the address
    # Tokens in an address or a header would go along to wherever the answer points.
    sender = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
    if not sender.add(url):
        return "it is not an address that apprise knows"
    kind = apprise.NotifyType.WARNING if event in _BAD_EVENTS else apprise.NotifyType.INFO
    told = sender.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
    return None if told else "the server refused it or did not answer"
