"""The routes: scores, decisions, the state of the server, and what alignment on another node asks.

In: a ``Service``. Out: a router. Answers are written as JSON by hand: checking our own numbers again, as FastAPI would,
costs more than scoring them in a batch.
"""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from rewardloop.modeling.scoring import Messages, as_messages
from rewardloop.serving import metrics
from rewardloop.serving.batching import Scored
from rewardloop.serving.body import Body, read_body
from rewardloop.serving.openapi import described, problems
from rewardloop.serving.schema import (
    AlignmentAnswer,
    AlignmentHealth,
    AlignmentRequest,
    Alive,
    DecideAnswer,
    DecideRequest,
    ModelAnswer,
    Ready,
    Row,
    ScoreAnswer,
    ScoreRequest,
)
from rewardloop.serving.service import Service


def decision_routes(service: Service) -> APIRouter:
    """What applications ask."""
    router = APIRouter(tags=["decisions"])

    @router.post("/v1/score", summary="Score answers", operation_id="score", **described(ScoreRequest, ScoreAnswer))
    async def _score(request: Request) -> Response:
        wanted = await _read(service, request, ScoreRequest)
        scored, _ = await _scored(service, wanted.rows)
        lines = [{"score": score, "error": error} for score, error in zip(scored.scores, scored.errors, strict=True)]
        return _json({"request_id": request.state.request_id, "model_version": scored.model.version, "scores": lines})

    @router.post(
        "/v1/decide",
        summary="May these answers be shown?",
        operation_id="decide",
        **described(DecideRequest, DecideAnswer),
    )
    async def _decide(request: Request) -> Response:
        wanted = await _read(service, request, DecideRequest)
        scored, prompts = await _scored(service, wanted.rows)
        request_id = request.state.request_id
        service.keep(request_id, wanted.rows, prompts, scored)
        return _json({"decisions": _lines(scored, request_id)})

    @router.get(
        "/v1/model",
        summary="The model that answers now",
        operation_id="model",
        response_model=ModelAnswer,
        responses=problems(503),
    )
    async def _model() -> Response:
        model = service.model
        return _json(
            {
                "name": model.name,
                "version": model.version,
                "digest": model.digest,
                "threshold": model.threshold,
                "block_threshold": model.scoring.get("block_threshold"),
                "max_length": int(model.scoring["max_length"]),
                "loaded_at": model.loaded_at.isoformat(timespec="seconds"),
            }
        )

    return router


def state_routes(service: Service) -> APIRouter:
    """What orchestrators and Prometheus ask."""
    router = APIRouter(tags=["state"])

    @router.get(
        "/healthz",
        summary="Whether the process works",
        operation_id="healthz",
        response_model=Alive,
        responses={503: {"model": Alive, "description": "Start it again"}},
    )
    async def _alive() -> Response:
        alive = service.batcher.alive
        return _json({"alive": alive}, 200 if alive else 503)

    @router.get(
        "/readyz",
        summary="Whether a model is loaded",
        operation_id="readyz",
        response_model=Ready,
        responses={503: {"model": Ready, "description": "No model is loaded"}},
    )
    async def _ready() -> Response:
        model = service.holder.current
        state = {"ready": model is not None, "model": model and model.name, "trouble": service.holder.trouble}
        return _json(state, 200 if model else 503)

    @router.get(
        "/metrics",
        summary="Figures for Prometheus",
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def _metrics() -> Response:
        service.metrics.queue.set(service.batcher.waiting)
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    return router


def alignment_routes(service: Service) -> APIRouter:
    """What ``RemoteScorer`` asks; the digest tells it when the model changed."""
    router = APIRouter(tags=["alignment"])

    @router.get(
        "/health",
        summary="Which weights answer now",
        operation_id="alignment_health",
        response_model=AlignmentHealth,
        responses=problems(503),
    )
    async def _health() -> Response:
        model = service.model
        return _json({"digest": model.digest, "scoring": model.scoring, "ready": True})

    @router.post(
        "/score", summary="Raw scores", operation_id="alignment_score", **described(AlignmentRequest, AlignmentAnswer)
    )
    async def _score(request: Request) -> Response:
        wanted = await _read(service, request, AlignmentRequest)
        if len(wanted.prompts) != len(wanted.responses):
            raise HTTPException(
                422,
                f"prompts: found {len(wanted.prompts):,}; expected one for each of the {len(wanted.responses):,} "
                "responses",
            )
        prompts = []
        for place, prompt in enumerate(wanted.prompts):
            try:
                prompts.append(as_messages(prompt))
            except ValueError as error:
                raise HTTPException(422, f"prompts[{place}]: {error}") from None
        # RemoteScorer tries again after 503, and takes every other refusal for the last word.
        scored = await service.score(prompts, wanted.responses, busy_status=503)
        decided = scored.decisions
        return _json(
            {
                "digest": scored.model.digest,
                "raw_scores": scored.raw,
                "scores": scored.scores,
                "allowed": None if decided is None else [decision == "accept" for decision in decided],
                "decisions": decided,
            }
        )

    return router


async def _read(service: Service, request: Request, kind: type[Body]) -> Body:
    settings = service.settings
    return await read_body(request, kind, max_bytes=settings.max_body_bytes, timeout_seconds=settings.timeout_seconds)


async def _scored(service: Service, rows: Sequence[Row]) -> tuple[Scored, list[Messages | None]]:
    """What became of the rows, and their prompts; None for a prompt that cannot be read."""
    prompts: list[Messages | None] = []
    refused: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            prompts.append(_messages(row))
        except ValueError as error:
            refused[place] = str(error)
            prompts.append(None)
    scored = await service.score([prompt or [] for prompt in prompts], [row.response for row in rows])
    for place, reason in refused.items():
        _refuse(scored, place, reason)
    return scored, prompts


def _messages(row: Row) -> Messages:
    if isinstance(row.prompt, list):
        return [{"role": turn.role, "content": turn.content} for turn in row.prompt]
    # As the registered model reads it: a text that is a JSON list of messages stands for these messages.
    return as_messages(row.prompt)


def _refuse(scored: Scored, place: int, reason: str) -> None:
    scored.scores[place] = scored.raw[place] = None
    scored.errors[place] = reason
    if scored.decisions is not None:
        scored.decisions[place] = "block" if scored.model.scoring.get("block_threshold") is None else "review"


def _lines(scored: Scored, request_id: str) -> list[dict[str, Any]]:
    decided: Sequence[str | None] = scored.decisions or [None] * len(scored.scores)
    threshold, version = scored.model.threshold, scored.model.version
    return [
        {
            "score": score,
            "allowed": None if decision is None else decision == "accept",
            "decision": decision,
            "threshold": threshold,
            "model_version": version,
            "request_id": request_id,
            "error": error,
        }
        for score, decision, error in zip(scored.scores, decided, scored.errors, strict=True)
    ]


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, allow_nan=False, separators=(",", ":")), status, media_type="application/json")
