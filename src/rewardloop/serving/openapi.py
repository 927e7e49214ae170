"""The OpenAPI document, described well enough that a generated client works.

In: the routes. Out: the document, with the request bodies that the routes read by themselves, and the limits and keys
of this server.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from rewardloop.serving.schema import AlignmentRequest, DecideRequest, Problem, ScoreRequest

_REF = "#/components/schemas/{model}"
_BODIES = (ScoreRequest, DecideRequest, AlignmentRequest)
_MEANINGS = {
    400: "The body is not JSON",
    401: "No key, or a wrong one",
    408: "The body came too slowly",
    413: "The body is too large, or holds too many rows",
    422: "The body is JSON of another shape",
    429: "Too much waits; come back after Retry-After seconds",
    500: "A defect of the server",
    503: "No model is loaded, or too much waits; come back after Retry-After seconds",
    504: "Not scored in time",
}
_RETRY = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def described(takes: type[BaseModel], gives: type[BaseModel], *, busy: int = 429) -> dict[str, Any]:
    """What a route that reads its own body tells FastAPI about it; ``busy``: its status when too much waits."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=takes.__name__)}}}
    return {
        "response_model": gives,
        "responses": problems(400, 408, 413, 422, 500, 503, 504) | problems(busy),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The descriptions of answers that are no success."""
    return {
        status: {"model": Problem, "description": _MEANINGS[status]}
        | ({"headers": _RETRY} if status in (429, 503) else {})
        for status in statuses
    }


def describe(app: FastAPI, *, max_responses: int, keys: bool, open_paths: frozenset[str]) -> None:
    """Let ``app`` give out the whole document."""

    def document() -> dict[str, Any]:
        """The document, made once."""
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, bodies = models_json_schema([(body, "validation") for body in _BODIES], ref_template=_REF)
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(bodies["$defs"])
            for body, rows in (("ScoreRequest", "rows"), ("DecideRequest", "rows"), ("AlignmentRequest", "responses")):
                schemas[body]["properties"][rows]["maxItems"] = max_responses
            if keys:
                _add_keys(found, open_paths)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _add_keys(document: dict[str, Any], open_paths: frozenset[str]) -> None:
    document["components"]["securitySchemes"] = _SCHEMES
    refused = {
        "description": _MEANINGS[401],
        "content": {"application/json": {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
    for path, operations in document["paths"].items():
        if path not in open_paths:
            for operation in operations.values():
                operation["security"] = [{name: []} for name in _SCHEMES]
                operation["responses"]["401"] = refused
