"""What the routes share: the model of the moment, the batches, the figures, the log and the limits.

In: the settings and a model. Out: scores of a request's rows, or an ``HTTPException`` that says when to come back.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from fastapi import HTTPException

from rewardloop.config import ServingSettings
from rewardloop.modeling.scoring import Messages
from rewardloop.serving.batching import Batcher, QueueFullError, Scored
from rewardloop.serving.decision_log import Decided, DecisionLog
from rewardloop.serving.keys import ApiKeys
from rewardloop.serving.metrics import Metrics
from rewardloop.serving.models import Holder, ServedModel
from rewardloop.serving.schema import DecideRow


class Service:
    """One server's parts; ``running`` starts and ends them."""

    def __init__(
        self,
        holder: Holder,
        settings: ServingSettings,
        *,
        log: DecisionLog | None = None,
        keys: ApiKeys | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.holder = holder
        self.settings = settings
        self.log = log
        self.keys = keys
        self.metrics = metrics or Metrics()
        self.batcher = Batcher(
            max_batch=settings.max_batch,
            wait_seconds=settings.batch_wait_milliseconds / 1_000,
            queue=settings.queue,
            watch=self._watch,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Score, follow the champion and write the log for as long as this is open."""
        self.batcher.start()
        if self.log:
            self.log.start()
        if self.holder.current:
            self.metrics.answers_with(self.holder.current)
        self.metrics.queue.set(0)
        self._last = self.holder.current
        following = asyncio.create_task(
            self.holder.follow(
                self.settings.poll_seconds, swapped=self._swapped, failed=self.metrics.follow_failures.inc
            )
        )
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await asyncio.to_thread(self.batcher.close)
            if self.log:
                await asyncio.to_thread(self.log.close)

    def _watch(self, rows: int, seconds: float) -> None:
        self.metrics.batch(rows, seconds)
        # Where several processes answer, the one that is asked for the figures knows the others' only by this.
        self.metrics.queue.set(self.batcher.waiting)

    def _swapped(self, model: ServedModel) -> None:
        self.metrics.answers_with(model, self._last)
        self._last = model

    @property
    def model(self) -> ServedModel:
        """The model of this moment.

        Raises:
            HTTPException: 503, there is none yet.
        """
        if self.holder.current is None:
            raise HTTPException(503, "no model is loaded yet", self._come_back(1))
        return self.holder.current

    async def score(self, prompts: Sequence[Messages], responses: Sequence[str], *, busy_status: int = 429) -> Scored:
        """Score the rows of one request by the model of this moment.

        Raises:
            HTTPException: 413 too many rows, ``busy_status`` too much waits, 504 not in time.
        """
        most = self.settings.max_responses
        if len(responses) > most:
            raise HTTPException(
                413, f"responses: found {len(responses):,}; send at most {most:,} in a request (serving.max_responses)"
            )
        model = self.model
        limit = self.settings.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await self.batcher.score(model, prompts, responses)
        except TimeoutError:
            raise HTTPException(504, f"not scored within {limit:g} s (serving.timeout_seconds)") from None
        except QueueFullError as error:
            raise HTTPException(busy_status, str(error), self._come_back(error.retry_after)) from None

    def keep(
        self, request_id: str, rows: Sequence[DecideRow], prompts: Sequence[Messages | None], scored: Scored
    ) -> None:
        """Count the decisions and put those of the sample into the log, without rows whose prompt cannot be read."""
        found = scored.decisions
        for decision in found or ():
            self.metrics.decisions.labels(decision).inc()
        if self.log is None or not self.log.wants(request_id):
            return
        now, model = time.time(), scored.model
        self.log.add(
            [
                Decided(
                    at=now,
                    request_id=request_id,
                    model_version=model.version,
                    segment=row.segment,
                    user=row.user,
                    prompt=prompt,
                    response=row.response,
                    score=scored.scores[place],
                    decision=None if found is None else found[place],
                    threshold=model.threshold,
                )
                for place, (row, prompt) in enumerate(zip(rows, prompts, strict=True))
                if prompt is not None
            ]
        )

    @staticmethod
    def _come_back(seconds: int) -> dict[str, str]:
        return {"Retry-After": str(seconds)}
