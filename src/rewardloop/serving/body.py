"""The body of a request: no larger and no slower than allowed, and checked with the place of the first mistake.

In: a request. Out: a checked model, or an ``HTTPException`` (400 no JSON, 408 too slow, 413 too large, 422 wrong).
The bytes go to pydantic as they are: it parses and checks in one pass, several times faster than FastAPI's own way.
"""

import asyncio
from typing import TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, kind: type[Body], *, max_bytes: int, timeout_seconds: float) -> Body:
    """The request's body as a ``kind``.

    Raises:
        HTTPException: 400, 408, 413 or 422; the detail names the place and what was found.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            content = await _read(request, max_bytes)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {timeout_seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection was closed before the body was complete") from None
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        status, detail = first_mistake(error)
        raise HTTPException(status, detail) from None


async def _read(request: Request, most: int) -> bytes:
    declared = request.headers.get("content-length", "")
    large = declared.isdecimal() and int(declared) > most
    # A client that asked first has sent nothing yet, and shall not.
    if large and request.headers.get("expect", "").lower() == "100-continue":
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if large or size > most:
            large = True
            parts.clear()
            # Most clients read no answer before all is sent, and would only see a broken connection. So as much again
            # is thrown away as it comes; then it is enough.
            if size > 2 * most:
                break
        else:
            parts.append(part)
    if large:
        raise _too_large(most)
    return b"".join(parts)


def _too_large(most: int) -> HTTPException:
    return HTTPException(
        413,
        f"the body is larger than {most:,} bytes (serving.max_body_bytes); send fewer or shorter rows",
        {"Connection": "close"},
    )


def first_mistake(error: ValidationError) -> tuple[int, str]:
    """HTTP status and words: thousands of rows may have the same mistake."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return 400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
    place = ".".join(str(part) for part in first["loc"])
    found = "" if first["type"] == "missing" else f"; found {first.get('input')!r:.80}"
    return 422, f"{place or 'the body'}: {first['msg']}{found}"
