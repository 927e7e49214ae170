"""Sections on serving decisions, and on what is learnt from them."""

from typing import Annotated, Literal

from pydantic import Field

from rewardloop.config.base import Positive, Section, Share

Milliseconds = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]


class DecisionLogSettings(Section):
    """Decisions kept in the store: what drift is measured on, and where new labeling tasks come from."""

    sample: Share = 0.0
    """Share of decisions that are kept; 0: none."""
    texts: bool = False
    """Keep prompt and response too; without them only lengths, segment, score and decision."""
    rows_per_file: Positive = 1_000
    seconds_per_file: Seconds = 60
    """A file is written when it is full, or this old."""


class ServingSettings(Section):
    """``rewardloop serve``."""

    max_batch: Positive = 32
    """Answers that are scored together."""
    batch_wait_milliseconds: Milliseconds = 2
    """How long the first of a batch waits for others."""
    queue: Positive = 1_024
    """Answers that may wait; more are refused with 429."""
    timeout_seconds: Seconds = 30
    """A request that is not answered by then is given up (504)."""
    max_body_bytes: Positive = 4_000_000
    max_responses: Positive = 1_024
    """Answers in one request."""
    poll_seconds: Seconds = 5
    """How often the champion is looked up."""
    keep_alive_seconds: Seconds = 75
    """How long an idle connection stays open; longer than that of a load balancer in front."""
    precision: Literal["float32", "auto"] = "float32"
    """``float32``: scores as they were certified; ``auto``: bfloat16 where it changes no decision."""
    log: DecisionLogSettings = DecisionLogSettings()


class DriftSettings(Section):
    """When logged decisions are no longer like those that the threshold was certified on."""

    days: Annotated[float, Field(gt=0)] = 7
    """Decisions of the last so many days are compared."""
    min_decisions: Positive = 200
    """Fewer, of a segment too, say nothing."""
    min_reference: Positive = 50
    """Answers that the version's reference must have, of a segment too."""
    max_psi: Annotated[float, Field(gt=0)] = 0.2
    """Population stability index above which a distribution has moved, if the test says so too."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Two-sample tests, corrected for their number (Holm), below this p-value."""
    max_disagreement: Share | None = None
    """Share of late labels that contradict the decision above which that is drift; None: reported only."""
    second_opinions: Positive = 2_000
    """Logged answers nearest the threshold that the previous champion is asked about when tasks are picked."""
