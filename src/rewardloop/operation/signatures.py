"""Who sent a request, and whether it was sent before.

In: the headers and the body of a request, and the secrets. Out: the reason to refuse it, or none. Ids of requests are
kept in the store, created only if absent: one counts once, however often and to whichever machine it is sent.

Scheme: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md (HMAC-SHA256 over id,
timestamp and body). The package's own ``verify`` allows five minutes whatever is configured, and fails in several ways
on malformed signatures; so its ``sign`` makes the expected signature, and the rest is checked here.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from standardwebhooks import Webhook

from rewardloop.errors import BadInputError
from rewardloop.storage import Storage

_FOLDER = "webhooks"
_SHORTEST_SIGNING = 24
"""Bytes, by the scheme."""
_SHORTEST_STATIC = 16
"""Characters."""
_KEPT_WINDOWS = 4
"""Ids are kept for so many times the tolerance; two would do if all clocks agreed."""
_FORGET_EVERY_SECONDS = 3600.0
_MAKE = f"whsec_ and the base64 of {_SHORTEST_SIGNING} or more random bytes"


@dataclass(frozen=True)
class Secrets:
    """Who may send requests. There are several signing secrets while an old one is replaced."""

    signing: tuple[Webhook, ...] = field(default=(), repr=False)
    label_studio: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Secrets":
        """From ``REWARDLOOP_WEBHOOK_SECRETS`` (separated by spaces) and ``REWARDLOOP_LABEL_STUDIO_SECRET``.

        Raises:
            BadInputError: there is none, or one is no secret; none is quoted.
        """
        texts = environment.get("REWARDLOOP_WEBHOOK_SECRETS", "").split()
        signing = tuple(_signing(text, place) for place, text in enumerate(texts, start=1))
        static = environment.get("REWARDLOOP_LABEL_STUDIO_SECRET", "").strip() or None
        if static is not None and len(static) < _SHORTEST_STATIC:
            raise BadInputError(
                f"REWARDLOOP_LABEL_STUDIO_SECRET: has {len(static)} characters; expected {_SHORTEST_STATIC} or more "
                "random ones"
            )
        if not signing and static is None:
            raise BadInputError(
                f"--listen: nobody may send anything; set REWARDLOOP_WEBHOOK_SECRETS ({_MAKE}) or "
                "REWARDLOOP_LABEL_STUDIO_SECRET"
            )
        return cls(signing, static)


def _signing(text: str, place: int) -> Webhook:
    name = f"REWARDLOOP_WEBHOOK_SECRETS: number {place}"
    plain = text.removeprefix("whsec_").rstrip("=")
    try:
        secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInputError(f"{name} is not base64; expected {_MAKE}") from error
    if len(secret) < _SHORTEST_SIGNING:
        raise BadInputError(f"{name} has {len(secret)} bytes; expected {_MAKE}")
    return Webhook(secret)


def why_not_signed(
    signing: tuple[Webhook, ...],
    body: bytes,
    *,
    message_id: str | None,
    timestamp: str | None,
    signature: str | None,
    tolerance_seconds: float,
    now: float | None = None,
) -> str | None:
    """Why the request is not to be believed; None: somebody who has a secret sent it, and lately.

    Args:
        signing: secrets, of which one must have signed.
        body: as it came.
        message_id: header webhook-id.
        timestamp: header webhook-timestamp, whole seconds since 1970.
        signature: header webhook-signature, ``v1,BASE64``, several separated by spaces.
        tolerance_seconds: how far the timestamp may be from ``now``.
        now: seconds since 1970.
    """
    if not message_id or not timestamp or not signature:
        return "webhook-id, webhook-timestamp and webhook-signature are needed"
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 11):
        return "webhook-timestamp: expected whole seconds since 1970"
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > tolerance_seconds:
        words = "old" if age > 0 else "in the future"
        return f"webhook-timestamp: {abs(age):.0f} s {words}; at most {tolerance_seconds:g} s are allowed"
    given = [value for version, _, value in (one.partition(",") for one in signature.split(" ")) if version == "v1"]
    try:
        text, moment = body.decode(), datetime.fromtimestamp(int(timestamp), UTC)
        expected = [secret.sign(message_id, moment, text).partition(",")[2] for secret in signing]
    except UnicodeError:
        return "webhook-signature: the body is not UTF-8"
    # Every pair is compared, each in constant time: how long it takes says nothing.
    matches = [hmac.compare_digest(one.encode(), other.encode()) for one in expected for other in given]
    return None if any(matches) else "webhook-signature: does not fit the body and any secret"


def is_label_studio(secret: str, given: str | None) -> bool:
    """Whether the static secret was sent; in constant time."""
    return hmac.compare_digest(secret.encode(), (given or "").encode())


class Replays:
    """Ids of requests that were taken, kept until their timestamps are too old anyway."""

    def __init__(self, storage: Storage, tolerance_seconds: float) -> None:
        self._storage = storage
        self._kept_seconds = _KEPT_WINDOWS * tolerance_seconds
        self._forgotten_at = -_FORGET_EVERY_SECONDS

    def first(self, message_id: str) -> bool:
        """Note the id; False when it was noted before."""
        self._forget()
        # Named by its writer: on an object store equal content counts as one's own.
        content = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "by": secrets.token_hex(8)}
        return self._storage.create(_name(message_id), json.dumps(content).encode())

    def take_back(self, message_id: str) -> None:
        """The request could not be done: its sender may send it again."""
        self._storage.fs.rm_file(self._storage.path(_name(message_id)))

    def _forget(self) -> None:
        if time.monotonic() - self._forgotten_at < _FORGET_EVERY_SECONDS:
            return
        self._forgotten_at = time.monotonic()
        fs = self._storage.fs
        fs.invalidate_cache()
        for path, info in fs.find(self._storage.path(_FOLDER), detail=True).items():
            modified = info.get("mtime") or info.get("LastModified") or info.get("created")
            seconds = modified.timestamp() if isinstance(modified, datetime) else modified
            if seconds is not None and time.time() - seconds > self._kept_seconds:
                try:
                    fs.rm_file(path)
                except FileNotFoundError:
                    continue  # another machine has done the same


def _name(message_id: str) -> str:
    return f"{_FOLDER}/{hashlib.sha256(message_id.encode()).hexdigest()}.json"
