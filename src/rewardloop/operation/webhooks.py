"""News over HTTP: a request wakes the watch, which then looks as it does by itself. No request runs anything here.

In: signed requests, or Label Studio's, whose sender can do no more than repeat a secret. Out: a reason on the watch's
queue, or an approval. Whatever is refused is logged without its body, and has done nothing.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from rewardloop import __version__
from rewardloop.config import WebhookSettings
from rewardloop.errors import RewardloopError
from rewardloop.operation.signatures import Replays, Secrets, is_label_studio, why_not_signed
from rewardloop.operation.webhook_schema import (
    OF_APPROVALS,
    OF_BODIES,
    OF_SIGNED,
    OF_STATIC,
    Alive,
    Approval,
    SignedHeaders,
    Taken,
    body_of,
)
from rewardloop.storage import Storage, StoreError

__all__ = ["Approval", "make_app"]

_Say = Callable[[str], None]
_Approve = Callable[[Approval, str], str]


@dataclass(frozen=True)
class _Door:
    """What stands between a request and what it asks for."""

    settings: WebhookSettings
    known: Secrets
    replays: Replays
    say: _Say

    def refused(self, request: Request, status: int, why: str) -> HTTPException:
        """The refusal, logged without the body, which may hold anything."""
        client = request.client.host if request.client else "unknown"
        self.say(f"{request.url.path} from {client}: {status}: {why}")
        return HTTPException(status, why)

    async def signed(self, request: Request, headers: SignedHeaders) -> dict[str, Any]:
        """The JSON of a request that somebody signed; its id is not noted yet."""
        body = await self.body(request)
        problem = why_not_signed(
            self.known.signing,
            body,
            message_id=headers.webhook_id,
            timestamp=headers.webhook_timestamp,
            signature=headers.webhook_signature,
            tolerance_seconds=self.settings.tolerance_seconds,
        )
        if problem:
            raise self.refused(request, 401, problem)
        return self.content(request, body)

    async def note(self, request: Request, headers: SignedHeaders) -> None:
        """Note the id of a signed request, or refuse what was sent before."""
        try:
            first = await run_in_threadpool(self.replays.first, str(headers.webhook_id))
        except Exception as error:
            self.say(f"{request.url.path}: {type(error).__name__}: {error}")
            raise self.refused(request, 503, "the id of the request cannot be kept now; send it again") from error
        if not first:
            raise self.refused(request, 401, "webhook-id: this request was sent before")

    async def body(self, request: Request) -> bytes:
        """The body, as long as it is within the limit: more than that is never read."""
        limit, seconds = self.settings.max_body_bytes, self.settings.timeout_seconds
        declared = request.headers.get("content-length", "")
        body, too_large = bytearray(), declared.isdecimal() and int(declared) > limit
        try:
            async with asyncio.timeout(seconds):
                chunks = request.stream()
                while not too_large and (chunk := await anext(chunks, None)) is not None:
                    body += chunk
                    too_large = len(body) > limit
        except TimeoutError as error:
            raise self.refused(request, 408, f"the body did not come in {seconds:g} s") from error
        except ClientDisconnect as error:
            raise self.refused(request, 400, "the sender went away") from error
        if too_large:
            raise self.refused(request, 413, f"the body is larger than {limit:,} bytes (webhook.max_body_bytes)")
        return bytes(body)

    def content(self, request: Request, body: bytes) -> dict[str, Any]:
        """The body as a JSON object."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            problem = (
                f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "is unreadable"
            )
            raise self.refused(request, 400, f"the body is not JSON: {problem}") from error
        if not isinstance(content, dict):
            raise self.refused(request, 400, f"the body: expected an object, found {type(content).__name__}")
        return content


def make_app(
    settings: WebhookSettings, known: Secrets, storage: Storage, *, wake: _Say, approve: _Approve, say: _Say
) -> FastAPI:
    """The application; a route that nobody has a secret for does not exist.

    Args:
        settings: limits.
        known: the secrets.
        storage: the feedback store's, where ids of requests are kept.
        wake: puts a reason on the watch's queue.
        approve: takes an approval and the id of its request, and says in a sentence what became of it; a
            ``RewardloopError`` is a refusal.
        say: the log.
    """
    # The pages of documentation would load scripts from elsewhere.
    app = FastAPI(title="rewardloop trigger", version=__version__, docs_url=None, redoc_url=None)
    door = _Door(settings, known, Replays(storage, settings.tolerance_seconds), say)

    @app.get("/healthz", summary="Whether the process answers")
    async def healthz() -> Alive:
        return Alive()

    if known.signing:
        _add_trigger(app, door, wake)
        _add_approve(app, door, approve)
    if known.label_studio is not None:
        _add_label_studio(app, door, known.label_studio, wake)
    return app


def _add_trigger(app: FastAPI, door: _Door, wake: _Say) -> None:
    @app.post(
        "/v1/webhooks/trigger",
        status_code=202,
        summary="Something new may be there: look, and start a run if one is due",
        responses=OF_BODIES | OF_SIGNED,
        openapi_extra=body_of({"type": "object"}),
    )
    async def trigger(request: Request, headers: Annotated[SignedHeaders, Header()]) -> Taken:
        await door.signed(request, headers)
        await door.note(request, headers)
        return _taken(request, "webhook", wake, door.say)


def _add_approve(app: FastAPI, door: _Door, approve: _Approve) -> None:
    @app.post(
        "/v1/webhooks/approve",
        summary="Make a version that waits for approval the champion",
        responses=OF_BODIES | OF_SIGNED | OF_APPROVALS,
        openapi_extra=body_of(Approval.model_json_schema()),
    )
    async def approve_version(request: Request, headers: Annotated[SignedHeaders, Header()]) -> Taken:
        """Make the named version the champion, as ``rewardloop approve`` does."""
        content = await door.signed(request, headers)
        try:
            wanted = Approval.model_validate(content)
        except ValidationError as error:
            raise door.refused(request, 400, _first_mistake(error)) from error
        await door.note(request, headers)
        request_id = _new_id()
        try:
            what = await run_in_threadpool(approve, wanted, request_id)
        except Exception as error:
            # A store that is away decides nothing: the same request may come again.
            if isinstance(error, RewardloopError) and not isinstance(error, StoreError):
                raise door.refused(request, 409, str(error)) from error
            door.say(f"{request.url.path}: {request_id}: {type(error).__name__}: {error}")
            with suppress(Exception):
                await run_in_threadpool(door.replays.take_back, str(headers.webhook_id))
            raise door.refused(request, 503, "it could not be done now; send it again") from error
        door.say(f"{request.url.path}: {request_id}: {what}")
        return Taken(request_id=request_id, what=what)


def _add_label_studio(app: FastAPI, door: _Door, secret: str, wake: _Say) -> None:
    @app.post(
        "/v1/webhooks/label-studio",
        status_code=202,
        summary="Somebody labeled something in Label Studio: look, and start a run if one is due",
        responses=OF_BODIES | OF_STATIC,
        openapi_extra=body_of({"type": "object"}),
    )
    async def label_studio(
        request: Request,
        x_label_studio_secret: Annotated[str | None, Header(description="REWARDLOOP_LABEL_STUDIO_SECRET.")] = None,
    ) -> Taken:
        if not is_label_studio(secret, x_label_studio_secret):
            raise door.refused(request, 401, "X-Label-Studio-Secret: missing or wrong")
        door.content(request, await door.body(request))
        return _taken(request, "Label Studio", wake, door.say)


def _taken(request: Request, sender: str, wake: _Say, say: _Say) -> Taken:
    request_id = _new_id()
    wake(f"{sender} {request_id}")
    say(f"{request.url.path}: {request_id}: taken")
    return Taken(request_id=request_id, what="the watch looks whether a run is due")


def _new_id() -> str:
    return secrets.token_hex(8)


def _first_mistake(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
