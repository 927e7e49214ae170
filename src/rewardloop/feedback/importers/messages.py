"""Lists of chat messages in other people's files, as prompts and answers.

In: a JSON value that should be a list of messages, as OpenAI's API and its followers write them. Out: ``Message`` s, or
two lists of them split into what they share and where they part. A role, a text and calls of tools are read; whatever
else a message has (a name, a weight, a count of tokens) is left out.
"""

import json
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rewardloop.feedback.importers.base import RowError
from rewardloop.feedback.importers.table import Record, shown
from rewardloop.records import Message

_CONVERSATION = re.compile(r"\s*\[\s*\{\s*([\"'])(?:role|content)\1\s*:")
_MESSAGES = TypeAdapter(tuple[Message, ...])
_ROLES = {"developer": "system", "function": "tool"}
"""Names that OpenAI's API has, or had, for the same thing."""


def messages_of(value: Any, name: str) -> tuple[Message, ...]:
    """The messages in ``value``; ``name`` is what reasons call it.

    Raises:
        RowError: it is no list of messages, or one holds something that is no text (an image).
    """
    if not isinstance(value, list | tuple):
        raise RowError(f"{name}: found {shown(value)}; expected a list of messages")
    plain = [_plain(message, f"{name}.{place}") for place, message in enumerate(value)]
    try:
        return _MESSAGES.validate_python(plain)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, (name, *first["loc"])))
        raise RowError(f"{place}: {first['msg']} (messages have a role and a content)") from None


def _plain(message: Any, name: str) -> Any:
    if not isinstance(message, dict):
        return message
    plain = {key: message[key] for key in ("role", "content") if key in message}
    if isinstance(plain.get("role"), str):
        plain["role"] = _ROLES.get(plain["role"], plain["role"])
    if isinstance(plain.get("content"), list | tuple):
        plain["content"] = "".join(_part(part, name) for part in plain["content"])
    calls = message.get("tool_calls")
    if calls:
        if plain.get("content") is not None and not isinstance(plain["content"], str):
            raise RowError(f"{name}.content: found {shown(plain['content'])}; expected a text")
        plain["content"] = "\n".join(filter(None, [plain.get("content"), *_calls(calls, name)]))
    return plain


def _part(part: Any, name: str) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) else part
    if kind not in ("text", "refusal", None) or not isinstance(text, str):
        raise RowError(f"{name}.content: has a part of type {shown(kind)}; only texts can be taken")
    return text


def _calls(calls: Any, name: str) -> list[str]:
    """Each call of a tool as a line of JSON: what was called with which arguments, without its random id."""
    lines = []
    for call in calls if isinstance(calls, list | tuple) else [calls]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError(f"{name}.tool_calls: found {shown(call)}; expected a function with a name and arguments")
        called = {"name": function["name"], "arguments": function.get("arguments")}
        lines.append(json.dumps(called, ensure_ascii=False, default=str))
    return lines


def conversation_cell(record: Record, column: str | None) -> Any:
    """The value in ``column``; a text that is a JSON list of messages is read as one, as tables hold conversations.

    Raises:
        RowError: it is such a list as Python prints it, which pandas writes into CSV files.
    """
    value = None if column is None else record.values.get(column)
    if not isinstance(value, str) or not (start := _CONVERSATION.match(value)):
        return value
    if start.group(1) == "'":
        raise RowError(f"{column}: is a list as Python prints it, not JSON; write the table again with json.dumps")
    try:
        listed = json.loads(value)
    except (ValueError, RecursionError):
        return value  # a text that happens to begin so
    return listed if all(isinstance(message, dict) for message in listed) else value


def parted(
    one: tuple[Message, ...], other: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """(what both begin with, the rest of one, the rest of the other); each rest has a message if its whole has."""
    shared = 0
    while shared < min(len(one), len(other)) - 1 and one[shared] == other[shared]:
        shared += 1
    return one[:shared], one[shared:], other[shared:]


def answer(messages: tuple[Message, ...], name: str) -> str:
    """The text of the one assistant message that ``messages`` should be."""
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages) or "nothing"
        raise RowError(f"{name}: found {roles} behind the common prompt; expected one assistant message")
    return messages[0].content


def json_cell(record: Record, column: str) -> Any:
    """The value in ``column``; a text that begins like JSON's lists and objects is read as JSON (CSV has texts only).

    Raises:
        RowError: it begins like JSON and is none.
    """
    value = record.values.get(column)
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        read = json.loads(value)
        json.dumps(read, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RowError(f"{column}: holds half of a surrogate pair (\\ud800 to \\udfff), which is no text") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"{column}: begins like JSON and is none ({str(error)[:60]})") from None
    return read
