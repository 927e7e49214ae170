"""The application: routes, request ids, keys, figures and clear answers to what goes wrong.

In: a ``Service``. Out: an ASGI application.
"""

import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewardloop import __version__
from rewardloop.serving.openapi import describe
from rewardloop.serving.routes import alignment_routes, decision_routes, state_routes
from rewardloop.serving.service import Service

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
"""Asked by orchestrators and Prometheus, which have no key."""
_ABOUT = """\
Scores answers and decides whether they may be shown, by the organization's reward model and its certified threshold.

Every answer carries `X-Request-Id`: the caller's, or a new one.
"""


def make_app(service: Service) -> FastAPI:
    """The application of one server process."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # The pages of documentation would load scripts from elsewhere.
    app = FastAPI(
        title="rewardloop", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None, lifespan=running
    )
    for router in (decision_routes(service), state_routes(service), alignment_routes(service)):
        app.include_router(router)
    describe(app, max_responses=service.settings.max_responses, keys=service.keys is not None, open_paths=_OPEN)

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, error: HTTPException) -> JSONResponse:
        return _problem(request.scope, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> JSONResponse:
        return _problem(request.scope, 500, f"a defect of the server ({type(error).__name__}); its log says more")

    app.add_middleware(_Around, service=service)
    return app


def _problem(scope: Scope, status: int, detail: str, headers: object = None) -> JSONResponse:
    content = {"detail": detail, "request_id": scope.get("state", {}).get("request_id")}
    return JSONResponse(content, status, headers)  # type: ignore[arg-type]


class _Around:
    """Request id, key and figures, without the cost of Starlette's middleware for functions."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            if self._let_in(scope["path"], headers):
                await self.app(scope, receive, answer)
            else:
                detail = "no API key, or a wrong one; send Authorization: Bearer KEY, or X-API-Key: KEY"
                refusal = _problem(scope, 401, detail, {"WWW-Authenticate": "Bearer"})
                await refusal(scope, receive, answer)
        finally:
            # Only known paths: whoever asks for others could make as many series as he likes.
            route = getattr(scope.get("route"), "path", "other")
            self.service.metrics.requests.labels(route, status).inc()
            self.service.metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _let_in(self, path: str, headers: Headers) -> bool:
        keys = self.service.keys
        if keys is None or path in _OPEN:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return keys.name_of(key) is not None
