"""Figures for Prometheus, in a registry of their own.

In: what the parts of the server report. Out: the text of ``/metrics``. With several worker processes the library's
shared files (``PROMETHEUS_MULTIPROC_DIR``) make it the sum over all of them, those that died included.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from rewardloop.serving.models import ServedModel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHARED = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What the server counts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("rewardloop_requests", "Requests", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "rewardloop_request_seconds", "From request to answer", ["route"], buckets=_SECONDS, registry=registry
        )
        self.decisions = Counter("rewardloop_decisions", "Decided answers", ["decision"], registry=registry)
        self.batch_rows = Histogram("rewardloop_batch_rows", "Answers in a batch", buckets=_ROWS, registry=registry)
        self.batch_seconds = Histogram(
            "rewardloop_batch_seconds", "Seconds of a batch", buckets=_SECONDS, registry=registry
        )
        self.queue = Gauge("rewardloop_queue_rows", "Answers that wait", registry=registry, multiprocess_mode="livesum")
        self.model = Gauge(
            "rewardloop_model",
            "Which model answers (1)",
            ["version", "digest"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.swaps = Counter("rewardloop_model_swaps", "Changes of the model", registry=registry)
        self.follow_failures = Counter(
            "rewardloop_follow_failures", "Times that the champion could not be looked up or loaded", registry=registry
        )
        self.logged = Counter("rewardloop_decision_log_rows", "Sampled decisions", ["outcome"], registry=registry)

    def batch(self, rows: int, seconds: float) -> None:
        """One batch went through the model."""
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def answers_with(self, model: ServedModel, before: ServedModel | None = None) -> None:
        """Another model answers now."""
        if before is not None:
            self.model.labels(before.version, before.digest[:12]).set(0)
            self.swaps.inc()
        self.model.labels(model.version, model.digest[:12]).set(1)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        if not os.environ.get(SHARED):
            return generate_latest(self.registry)
        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call]
        return generate_latest(every)
