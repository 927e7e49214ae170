"""Chosen and rejected answers: HH transcripts, TRL's preference shapes, plain texts.

Shapes of a row, told apart by what it holds:
- strings that are HH transcripts (``Human:`` and ``Assistant:`` turns): the prompt is their common part up to the last
  ``Assistant:``, read into messages;
- lists of messages: the prompt is an explicit list, or what both lists begin with;
- other strings: the prompt is the ``prompt`` field, or none. With ``strings=common-prefix`` and no ``prompt`` field it
  is what both strings begin with (TRL's implicit prompt, which plain texts cannot be told from).
"""

import os.path
import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Rejected,
    RowError,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row
from rewardloop.records import Choice, FeedbackGroup, Message, Response

_MESSAGES = TypeAdapter(tuple[Message, ...])
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ANSWER = "\n\nAssistant:"
_ROLES: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}


class PairsOptions(LabelOptions):
    """``strings``: what two strings without a prompt and without turns are."""

    chosen: Column = "chosen"
    rejected: Column = "rejected"
    prompt: Column = "prompt"
    id: Column = "id"
    segment: Column = "segment"
    labeler: Column = "labeler"
    strings: Literal["whole", "common-prefix"] = "whole"


def _recognizes(table: Table, options: PairsOptions) -> str | None:
    if options.chosen not in table.columns or options.rejected not in table.columns:
        return None
    return f"it has the fields {options.chosen!r} and {options.rejected!r}"


@importer("pairs", "a chosen and a rejected answer", PairsOptions, recognizes=_recognizes)
def pairs(table: Table, options: PairsOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is a group of two responses with one choice."""
    chosen_column = table.required_column(options, "chosen")
    rejected_column = table.required_column(options, "rejected")
    columns = {name: table.column(options, name) for name in ("prompt", "id", "segment", "labeler")}
    labeler_column = columns["labeler"]
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = raw_row(
            record,
            keep=[chosen_column, rejected_column, columns["prompt"], columns["id"], columns["segment"]],
            labelers={labeler_column: "cell"} if labeler_column else {},
        )
        try:
            yield Taken(_group(record, chosen_column, rejected_column, columns, options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _group(
    record: Record, chosen_column: str, rejected_column: str, columns: dict[str, str | None], options: PairsOptions
) -> FeedbackGroup:
    given = record.values.get(columns["prompt"]) if columns["prompt"] else None
    prompt, chosen, rejected = split_pair(
        given, record.values.get(chosen_column), record.values.get(rejected_column), options.strings
    )
    if chosen == rejected:
        raise RowError("chosen and rejected are the same text; a tie is no preference")
    # Ids follow from the texts, not from who won: another labeler's opposite choice is then about the same responses.
    ids = {text: name for name, text in zip("ab", sorted((chosen, rejected)), strict=True)}
    label = Choice(
        labeler=optional_text(record, columns["labeler"]),
        labeler_kind=options.labeler_kind,
        criterion=options.criterion,
        chosen=ids[chosen],
        rejected=ids[rejected],
    )
    turns = [f"{message.role}:{message.content}" for message in prompt]
    return FeedbackGroup(
        group_id=optional_text(record, columns["id"]) or content_id(*turns, *ids),
        prompt=prompt,
        responses=tuple(Response(response_id=name, content=text) for text, name in ids.items()),
        labels=(label,),
        segment=optional_text(record, columns["segment"]) or options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def split_pair(
    prompt: Any, chosen: Any, rejected: Any, strings: Literal["whole", "common-prefix"]
) -> tuple[tuple[Message, ...], str, str]:
    """(prompt, chosen answer, rejected answer) of one row.

    Raises:
        RowError: the row has none of the known shapes.
    """
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _conversations(prompt, chosen, rejected)
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise RowError("chosen and rejected: expected two texts or two lists of messages")
    if prompt is None or prompt == "":
        if _is_transcript(chosen) and _is_transcript(rejected):
            return _transcripts(chosen, rejected)
        start = _common_start(chosen, rejected) if strings == "common-prefix" else 0
        messages = (Message(role="user", content=chosen[:start].strip()),) if chosen[:start].strip() else ()
        return messages, chosen[start:], rejected[start:]
    if isinstance(prompt, str):
        if prompt.rstrip().endswith(_ANSWER) and _is_transcript(prompt):
            return _turns(prompt.rstrip().removesuffix(_ANSWER)), chosen.strip(), rejected.strip()
        return (Message(role="user", content=prompt),), chosen, rejected
    return _messages(prompt, "prompt"), chosen, rejected


def _conversations(prompt: Any, chosen: list[Any], rejected: list[Any]) -> tuple[tuple[Message, ...], str, str]:
    chosen_messages, rejected_messages = _messages(chosen, "chosen"), _messages(rejected, "rejected")
    shared = 0
    while shared < min(len(chosen_messages), len(rejected_messages)) - 1:
        if chosen_messages[shared] != rejected_messages[shared]:
            break
        shared += 1
    messages = chosen_messages[:shared]
    if isinstance(prompt, list):
        messages = _messages(prompt, "prompt") + messages
    elif isinstance(prompt, str) and prompt and not shared:
        messages = (Message(role="user", content=prompt),)
    return messages, _answer(chosen_messages[shared:], "chosen"), _answer(rejected_messages[shared:], "rejected")


def _answer(messages: tuple[Message, ...], name: str) -> str:
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages) or "nothing"
        raise RowError(f"{name}: found {roles} behind the common prompt; expected one assistant message")
    return messages[0].content


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    try:
        return _MESSAGES.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, (name, *first["loc"])))
        raise RowError(f"{place}: {first['msg']} (messages have a role and a content)") from None


def _is_transcript(text: str) -> bool:
    turns = [match.group(1) for match in _TURN.finditer(text)]
    return turns[:1] == ["Human"] and "Assistant" in turns


def _transcripts(chosen: str, rejected: str) -> tuple[tuple[Message, ...], str, str]:
    end = chosen[: _shared_characters(chosen, rejected)].rfind(_ANSWER)
    answers = [text[end + len(_ANSWER) :] for text in (chosen, rejected)]
    if end < 0 or any(_TURN.search(answer) for answer in answers):
        raise RowError("the transcripts part before the last answer; expected one prompt and two answers to it")
    return _turns(chosen[:end]), answers[0].strip(), answers[1].strip()


def _turns(transcript: str) -> tuple[Message, ...]:
    pieces = _TURN.split(transcript)
    if pieces[0].strip():
        raise RowError("the transcript has text before its first turn; expected it to begin with 'Human:'")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(role=_ROLES[role], content=content.strip()) for role, content in turns)


def _shared_characters(a: str, b: str) -> int:
    return len(os.path.commonprefix([a, b]))  # noqa: RUF071 - compares characters, which is what is wanted


def _common_start(chosen: str, rejected: str) -> int:
    """Where the strings part, moved back to the start of the word (TRL's ``extract_prompt`` leaves it in the word)."""
    start = _shared_characters(chosen, rejected)
    while start and not chosen[start - 1].isspace():
        start -= 1
    # The answer keeps the space before its first word.
    return start - 1 if start and chosen[start - 1] == " " else start
