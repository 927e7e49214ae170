"""A reward model answers over HTTP: the counterpart of ``RemoteScorer``.

In: a loaded ``RewardScorer`` and the digest of its weights. Out: an ASGI application with ``GET /health`` (which model
this is) and ``POST /score`` (prompts and responses become scores). What cannot be scored is ``null``: JSON has no NaN.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict

from rewardloop import __version__
from rewardloop.errors import BadInputError
from rewardloop.modeling.scoring import Floats, Messages, RewardScorer, as_messages, decisions

MOST_RESPONSES = 4096
"""Responses in one request; more are refused, for memory's sake."""


class ScoreRequest(BaseModel):
    """What ``POST /score`` takes: one prompt per response."""

    model_config = ConfigDict(extra="forbid")

    prompts: list[Any]
    """Each a text, a list of messages, or nothing."""
    responses: list[str]


class ScoreAnswer(BaseModel):
    """What ``POST /score`` gives, in the order of the responses."""

    digest: str
    """Digest of the weights that scored: a server may be started again with another model."""
    raw_scores: list[float | None]
    """None: the response alone is too long, or its score is not a finite number."""
    scores: list[float | None]
    """On the public scale."""
    allowed: list[bool] | None
    """None: no threshold was certified."""
    decisions: list[str] | None
    """accept, review or block; review only where there is a block threshold. None: no threshold was certified."""


class Health(BaseModel):
    """What ``GET /health`` gives."""

    digest: str
    scoring: dict[str, Any]
    """``scoring.json``: encoding, public scale and thresholds."""
    ready: bool = True


def make_app(scorer: RewardScorer, digest: str) -> FastAPI:
    """The application that scores with ``scorer``, one request at a time.

    Args:
        scorer: a loaded reward model whose fixture was checked.
        digest: ``weights_digest`` of its weights, by which clients know the model.

    Raises:
        BadInputError: ``scorer.scoring`` holds what JSON cannot.
    """
    health = Health(digest=digest, scoring=_plain(scorer.scoring))
    # The pages of documentation would load scripts from elsewhere.
    app = FastAPI(title="rewardloop", version=__version__, docs_url=None, redoc_url=None)
    # One thread at a time on the model; those who wait hold no thread, and the event loop stays free for /health.
    turn = asyncio.Lock()

    @app.exception_handler(RequestValidationError)
    async def _unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _first_mistake(error)}, status_code=422)

    @app.get("/health")
    async def _health() -> Health:
        return health

    @app.post("/score")
    async def _score(wanted: ScoreRequest) -> ScoreAnswer:
        prompts = _checked(wanted)
        async with turn:
            raw = await run_in_threadpool(_raw_scores, scorer, prompts, wanted.responses)
        public = scorer.public(raw)
        decided = None
        if scorer.threshold is not None:
            # A version scores with the code it was registered with, which may be older than three-way decisions.
            decided = decisions(public, scorer.threshold, scorer.scoring.get("block_threshold"))
        return ScoreAnswer(
            digest=digest,
            raw_scores=_nullable(raw),
            scores=_nullable(public),
            allowed=None if decided is None else (decided == "accept").tolist(),
            decisions=None if decided is None else decided.tolist(),
        )

    return app


def _checked(wanted: ScoreRequest) -> list[list[dict[str, str]]]:
    """The prompts as messages."""
    if len(wanted.responses) > MOST_RESPONSES:
        raise HTTPException(
            413, f"responses: found {len(wanted.responses):,}; send at most {MOST_RESPONSES:,} in a request"
        )
    if len(wanted.prompts) != len(wanted.responses):
        raise HTTPException(
            422,
            f"prompts: found {len(wanted.prompts):,}; expected one for each of the {len(wanted.responses):,} responses",
        )
    prompts = []
    for place, prompt in enumerate(wanted.prompts):
        try:
            prompts.append(as_messages(prompt))
        except ValueError as error:
            raise HTTPException(422, f"prompts[{place}]: {error}") from error
    return prompts


def _raw_scores(scorer: RewardScorer, prompts: list[list[dict[str, str]]], responses: list[str]) -> Floats:
    given: list[Messages] = [*prompts]
    try:
        return scorer.raw_scores(given, responses)
    except TemplateError as error:
        raise HTTPException(422, f"prompts: the model's chat template refuses one of them: {error}") from error


def _nullable(values: Floats) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _plain(scoring: Mapping[str, Any]) -> dict[str, Any]:
    """``scoring`` without NumPy's numbers and lists."""
    try:
        content = json.dumps(dict(scoring), allow_nan=False, default=lambda value: value.tolist())
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"scoring.json: cannot be given out as JSON ({error}); every number must be finite"
        ) from error
    return json.loads(content)  # type: ignore[no-any-return]


def _first_mistake(error: RequestValidationError) -> str:
    """A place and what is wrong there; thousands of responses may have the same mistake."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "json_invalid":
        return "the body is not JSON; expected an object with prompts and responses"
    found = "" if first["type"] == "missing" else f"; found {first.get('input')!r:.80}"
    return f"{place or 'the body'}: {first['msg']}{found}"
