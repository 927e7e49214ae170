"""Transcripts as the HH data write them: turns that begin with ``Human:`` and ``Assistant:``.

In: texts. Out: prompts as messages, and answers.
"""

import os.path
import re
from typing import Literal

from rewardloop.feedback.importers.base import RowError
from rewardloop.records import Message

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ANSWER = "\n\nAssistant:"
_ROLES: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether the text begins with a human's turn and has an assistant's."""
    turns = [match.group(1) for match in _TURN.finditer(text)]
    return turns[:1] == ["Human"] and "Assistant" in turns


def prompt_of(text: str) -> tuple[Message, ...] | None:
    """The messages of a transcript that ends where the assistant's turn begins; None where the text is none."""
    text = text.rstrip()
    return _turns(text.removesuffix(_ANSWER)) if text.endswith(_ANSWER) and is_transcript(text) else None


def repeats_prompt(prompt: str, text: str) -> bool:
    """Whether the text is a transcript that begins with the prompt: a transcript itself, or its only human turn."""
    prompt = prompt.strip()
    heads = prompt if prompt.endswith(_ANSWER) else (f"{prompt}{_ANSWER}", f"Human: {prompt}{_ANSWER}")
    return is_transcript(text.lstrip()) and text.lstrip().startswith(heads)


def split_transcripts(chosen: str, rejected: str) -> tuple[tuple[Message, ...], str, str]:
    """(prompt, chosen answer, rejected answer): the prompt is the common part up to the last ``Assistant:``."""
    end = chosen[: shared_characters(chosen, rejected)].rfind(_ANSWER)
    answers = [text[end + len(_ANSWER) :] for text in (chosen, rejected)]
    if end < 0 or any(_TURN.search(answer) for answer in answers):
        raise RowError("the transcripts part before the last answer; expected one prompt and two answers to it")
    return _turns(chosen[:end]), answers[0].strip(), answers[1].strip()


def transcript(messages: tuple[Message, ...]) -> str:
    """Messages as one text, each with its role: what is left of a conversation behind its prompt."""
    names = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}
    return "\n\n".join(f"{names[message.role]}: {message.content}" for message in messages)


def shared_characters(a: str, b: str) -> int:
    """How many characters both begin with."""
    return len(os.path.commonprefix([a, b]))  # noqa: RUF071 - compares characters, which is what is wanted


def _turns(text: str) -> tuple[Message, ...]:
    pieces = _TURN.split(text)
    if pieces[0].strip():
        raise RowError("the transcript has text before its first turn; expected it to begin with 'Human:'")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(role=_ROLES[role], content=content.strip()) for role, content in turns)
