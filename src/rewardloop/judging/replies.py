"""What an OpenAI-compatible endpoint answers: its completion, its error's words, the pause that it asks for.

In: bodies and headers as they came. Out: an ``Answer``, or why there is none; nothing is taken for granted.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from rewardloop.judging.backends import UnanswerableError
from rewardloop.judging.cache import Answer


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header: a number or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def said(content: bytes) -> str:
    """The error's own words, in the shape that such endpoints give, else the beginning of what came."""
    try:
        error = json.loads(content)["error"]
        words = " ".join(str(error[name]) for name in ("code", "message") if error.get(name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = ""
    return (words or content.decode(errors="replace"))[:200].strip() or "nothing"


def completion(content: bytes) -> Answer:
    """The first choice of a chat completion.

    Raises:
        UnanswerableError: it is none.
    """
    try:
        tree = json.loads(content)
        choice = tree["choices"][0]
        text = choice["message"].get("content") or ""
        usage = tree.get("usage") or {}
        if not isinstance(text, str):
            raise TypeError
        text.encode()  # half of a surrogate pair is no text
        return Answer(
            text=text,
            finished=choice.get("finish_reason") in ("stop", None),
            input_tokens=_tokens(usage, "prompt_tokens"),
            output_tokens=_tokens(usage, "completion_tokens"),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise UnanswerableError("an answer that is no chat completion") from None


def _tokens(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
