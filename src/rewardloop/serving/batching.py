"""Rows of several requests go through the model together; one thread has the model to itself.

In: rows (prompt and response) with the model that they are to be scored by. Out: per row a raw score, a public score
and a decision, or why there is none. What waits is bounded: a queue that grows without end answers nobody in time.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jinja2 import TemplateError

from rewardloop.modeling.scoring import Messages
from rewardloop.serving.models import ServedModel

_log = logging.getLogger(__name__)
_SMOOTHING = 0.2
"""Weight of the newest batch in the measured rate."""

TOO_LONG = "the response is longer than the model can read"
UNSCORED = "the model could not score this row"


class QueueFullError(Exception):
    """Too much waits already; ``retry_after``: seconds in which that much is scored, at the rate of now."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass
class Scored:
    """What became of the rows of one request, in their order; ready for JSON, which has no NaN."""

    model: ServedModel
    raw: list[float | None] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    """On the public scale."""
    decisions: list[str] | None = None
    """accept, review or block; None: the model has no certified threshold."""
    errors: list[str | None] = field(default_factory=list)
    """Why a row has no score."""


@dataclass(eq=False)
class _Job:
    prompts: Sequence[Messages]
    responses: Sequence[str]
    scored: Scored
    answered: "asyncio.Future[Scored]"
    taken: int = 0


class Batcher:
    """Collects rows and scores them in batches; ``start`` it inside a running event loop."""

    def __init__(
        self, *, max_batch: int, wait_seconds: float, queue: int, watch: Callable[[int, float], object] | None = None
    ) -> None:
        """Prepare.

        Args:
            max_batch: rows that are scored together; more of one request take turns with other requests.
            wait_seconds: how long to wait for more rows, where the batch before showed that several callers are there.
            queue: rows that may wait.
            watch: told of every batch's rows and seconds.
        """
        self.max_batch = max_batch
        self.wait_seconds = wait_seconds
        self.queue = queue
        self._watch = watch
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._idle = False
        self._several = False
        self._closed = False
        self._rate: float | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; answers are given in the event loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after what it is at; rows that wait are given up."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    async def score(self, model: ServedModel, prompts: Sequence[Messages], responses: Sequence[str]) -> Scored:
        """Scores of one request's rows; when the caller is cancelled, its rows leave the queue.

        Raises:
            QueueFullError: more rows would wait than may.
        """
        scored = Scored(model, decisions=None if model.threshold is None else [])
        if not responses:
            return scored
        job = _Job(prompts, responses, scored, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._waiting and self._waiting + len(responses) > self.queue:
                raise QueueFullError(self._seconds_of_queue())
            self._jobs.append(job)
            self._waiting += len(responses)
            if self._idle or self._waiting >= self.max_batch:
                self._changed.notify()
        try:
            return await job.answered
        finally:
            if job.taken < len(responses):
                self._leave(job)

    def _leave(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._waiting -= len(job.responses) - job.taken

    def _seconds_of_queue(self) -> int:
        return 1 if not self._rate else max(1, math.ceil(self._waiting / self._rate))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.wait_for(lambda: self._jobs or self._closed)
                self._idle = False
                # A single caller never waits; of many, the first to come back would otherwise be scored alone.
                if self._several and self._waiting < self.max_batch and not self._closed:
                    self._changed.wait_for(
                        lambda: self._waiting >= self.max_batch or self._closed, timeout=self.wait_seconds
                    )
                if self._closed:
                    return
                batch = self._take()
            if batch:
                self._several = len(batch) > 1
                self._score(batch)

    def _take(self) -> list[tuple[_Job, slice]]:
        """The next rows of one model; a request with rows left over goes to the end of the queue."""
        batch: list[tuple[_Job, slice]] = []
        unfinished = []
        room = self.max_batch
        model = self._jobs[0].scored.model if self._jobs else None
        while room and self._jobs and self._jobs[0].scored.model is model:
            job = self._jobs.popleft()
            part = slice(job.taken, min(job.taken + room, len(job.responses)))
            job.taken = part.stop
            room -= part.stop - part.start
            batch.append((job, part))
            if job.taken < len(job.responses):
                unfinished.append(job)
        self._jobs.extend(unfinished)
        self._waiting -= self.max_batch - room
        return batch

    def _score(self, batch: list[tuple[_Job, slice]]) -> None:
        started = time.perf_counter()
        model = batch[0][0].scored.model
        prompts = [prompt for job, part in batch for prompt in job.prompts[part]]
        responses = [response for job, part in batch for response in job.responses[part]]
        failure = None
        try:
            raw, errors = _raw_scores(model, prompts, responses)
            _share_out(model, batch, raw, errors)
        except Exception as error:  # a defect: it must not end the thread that everybody waits for
            _log.exception("a batch of %d rows failed", len(responses))
            failure = error
        seconds = time.perf_counter() - started
        rate = len(responses) / max(seconds, 1e-9)
        self._rate = rate if self._rate is None else (1 - _SMOOTHING) * self._rate + _SMOOTHING * rate
        if self._watch:
            self._watch(len(responses), seconds)
        done = [job for job, part in batch if failure or part.stop == len(job.responses)]
        assert self._loop is not None
        if done and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_answer, done, failure)


def _answer(jobs: list[_Job], failure: Exception | None) -> None:
    for job in jobs:
        if not job.answered.done():
            if failure is None:
                job.answered.set_result(job.scored)
            else:
                job.answered.set_exception(failure)


def _raw_scores(
    model: ServedModel, prompts: Sequence[Messages], responses: Sequence[str]
) -> tuple[np.ndarray, list[str | None]]:
    """Raw scores and errors; where the model fails on a batch, only the rows that it fails on are left out."""
    try:
        return model.scorer.raw_scores(prompts, responses), [None] * len(responses)
    except Exception as error:
        if len(responses) == 1:
            return np.full(1, np.nan), [_reason(error)]
    found = [_raw_scores(model, [prompt], [text]) for prompt, text in zip(prompts, responses, strict=True)]
    return np.concatenate([raw for raw, _ in found]), [errors[0] for _, errors in found]


def _reason(error: Exception) -> str:
    if isinstance(error, TemplateError):
        return f"the model's chat template refuses the prompt: {error}"
    _log.error("%s", UNSCORED, exc_info=error)
    return f"{UNSCORED} ({type(error).__name__})"


def _share_out(
    model: ServedModel, batch: list[tuple[_Job, slice]], raw: np.ndarray, errors: Sequence[str | None]
) -> None:
    public = model.scorer.public(raw)
    decided = model.decide(public)
    done = 0
    for job, part in batch:
        end = done + part.stop - part.start
        scored = job.scored
        scored.raw += _nullable(raw[done:end])
        scores = _nullable(public[done:end])
        scored.scores += scores
        scored.errors += [
            error or (None if score is not None else TOO_LONG if math.isnan(value) else UNSCORED)
            for error, score, value in zip(errors[done:end], scores, raw[done:end].tolist(), strict=True)
        ]
        if scored.decisions is not None and decided is not None:
            scored.decisions += decided[done:end]
        done = end


def _nullable(values: np.ndarray) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
