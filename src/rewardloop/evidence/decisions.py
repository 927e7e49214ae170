"""What is kept of a served decision: one line of ``decisions/<date>/*.jsonl`` in the feedback store.

In: an answer that ``rewardloop serve`` decided on. Out: what drift is measured on, and where new labeling tasks come
from. The folder's date and the file's time are those of the first record in it, in UTC.
"""

from typing import Literal

from rewardloop.evidence.base import Evidence


class DecisionRecord(Evidence):
    """One answer and what was decided on it."""

    at: str
    """UTC, ISO 8601."""
    request_id: str
    """Of the request; all its answers share it, and are kept or left out together."""
    model_version: str
    """Registered version; empty where a folder was served."""
    segment: str | None = None
    user: str | None = None
    """Keyed pseudonym, made as those of labelers are."""
    prompt: list[dict[str, str]] | None = None
    """Messages; None: texts are not kept (``serving.log.texts``)."""
    response: str | None = None
    prompt_hash: str
    """``records.prompt_key`` of the prompt's turns: SHA-256 over roles and normalized contents."""
    response_hash: str
    """SHA-256 (``records.text_digest``) of the normalized response."""
    prompt_characters: int
    response_characters: int
    score: float | None = None
    """On the public scale; None: could not be scored."""
    decision: Literal["accept", "review", "block"] | None = None
    """None: the version has no certified threshold."""
    threshold: float | None = None
