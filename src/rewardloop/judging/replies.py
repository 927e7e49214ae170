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
from rewardloop.judging.limits import Usage

_CUT = ("length", "model_length", "max_tokens", "content_filter", "error")
"""Why an answer may be a part of one. Servers have many words for the other case (stop, eos, stop_sequence, none)."""


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


def usage_of(content: bytes) -> Usage:
    """What a request was charged by its answer, whatever else that is."""
    try:
        usage = json.loads(content)["usage"]
        return Usage(_tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Usage()


def completion(content: bytes) -> Answer:
    """The first choice of a chat completion.

    Raises:
        UnanswerableError: it is none.
    """
    try:
        choice = json.loads(content)["choices"][0]
        text = _text(choice["message"].get("content"))
        reason = choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise UnanswerableError("an answer that is no chat completion") from None
    used = usage_of(content)
    return Answer(text, reason if reason in _CUT else None, used.input_tokens, used.output_tokens)


def _text(content: Any) -> str:
    """A message's text, or of its parts those that are text: others hold what a model thought, or what it refuses."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    text = content or ""
    if not isinstance(text, str):
        raise TypeError
    text.encode()  # half of a surrogate pair is no text
    return text


def _tokens(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
