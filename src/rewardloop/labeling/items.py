"""Prompts with responses that nobody has judged yet, and control items whose right answer is known.

In: JSON lines, as ``rewardloop sample-responses`` writes them; canonical records for controls. Out: items, each once,
and what was left out with reasons. A line that cannot be read is an error that names it: a task that is missing is
seen by nobody.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from rewardloop.errors import BadInputError
from rewardloop.feedback.reading import read_sources
from rewardloop.records import Choice, FeedbackGroup, Message, Ranking, Response, Sampling, text_digest

FEW = "fewer than two different responses"
AGAIN = "the same prompt and responses again"
CONTROL = "is a control item"


def _messages(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) and value else value or []


def _responses(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    named = [{"content": one} if isinstance(one, str) else one for one in value]
    return [
        {"response_id": f"r{place}"} | one if isinstance(one, dict) else one for place, one in enumerate(named, start=1)
    ]


class _Line(BaseModel):
    """A prompt with its responses; other fields (how they were sampled) are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: Annotated[tuple[Message, ...], BeforeValidator(_messages)] = ()
    responses: Annotated[tuple[Response, ...], BeforeValidator(_responses)]
    segment: str | None = None
    sampling: Sampling = "random"


class Item(NamedTuple):
    """Something to judge."""

    id: str
    """Digest of prompt and responses, whatever the order of these."""
    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]
    segment: str | None
    sampling: Sampling
    known: tuple[int, ...] | None = None
    """Ranks of the responses, 1 is best, where the right answer is known."""


class Items(NamedTuple):
    """Items in the order of their file, and how many were left out by reason."""

    items: list[Item]
    left_out: Counter[str]


def read_items(path: Path, *, limit: int, besides: frozenset[str] = frozenset()) -> Items:
    """The items of a file of responses.

    Args:
        path: JSON lines of ``prompt`` (text or messages) and ``responses`` (texts, or objects with ``content`` and
            perhaps ``response_id`` and ``model``), perhaps ``segment`` and ``sampling``.
        limit: most bytes once unpacked.
        besides: ids of control items, which are not taken.

    Raises:
        BadInputError: the file or a line cannot be read, or nothing is left.
    """
    found: dict[str, Item] = {}
    left_out: Counter[str] = Counter()
    for place, content in _lines(path, limit):
        try:
            line = _Line.model_validate(content)
        except ValidationError as error:
            raise BadInputError(f"{place}: {_first(error)}; expected prompt and responses") from error
        if line.sampling == "control":
            raise BadInputError(f"{place}: sampling is 'control'; give control items with --control")
        ids = [response.response_id for response in line.responses]
        if len(set(ids)) < len(ids):
            raise BadInputError(f"{place}: response ids {ids} are not unique; name each response differently")
        # The same text twice is one response; a labeler could not tell them apart.
        responses = {
            response.content.strip(): response for response in reversed(line.responses) if response.content.strip()
        }
        different = tuple(reversed(responses.values()))
        if len(different) < 2:
            left_out[FEW] += 1
            continue
        item = Item(item_id(line.prompt, different), line.prompt, different, line.segment, line.sampling)
        if item.id in besides:
            left_out[CONTROL] += 1
        elif item.id in found:
            left_out[AGAIN] += 1
        else:
            found[item.id] = item
    if not found:
        why = "; ".join(f"{reason}: {count:,}" for reason, count in left_out.items()) or "it is empty"
        raise BadInputError(f"{path}: no prompt has responses to judge ({why})")
    return Items(list(found.values()), left_out)


def read_controls(path: Path, *, limit: int) -> list[Item]:
    """The control items of a file of canonical records, each with one label that says which answer is right.

    Raises:
        BadInputError: the file or a line cannot be read, or a line does not tell what is right.
    """
    found: dict[str, Item] = {}
    for place, content in _lines(path, limit):
        try:
            group = FeedbackGroup.model_validate(content)
        except ValidationError as error:
            raise BadInputError(f"{place}: {_first(error)}; expected a canonical record") from error
        item = Item(
            item_id(group.prompt, group.responses),
            group.prompt,
            group.responses,
            group.segment,
            "control",
            _known(group, place),
        )
        if found.setdefault(item.id, item).known != item.known:
            raise BadInputError(f"{place}: an earlier line says that another answer is right; keep one of them")
    if not found:
        raise BadInputError(f"{path}: holds no record; expected control items")
    return list(found.values())


def item_id(prompt: tuple[Message, ...], responses: tuple[Response, ...]) -> str:
    """Names a prompt with its responses, whatever their order."""
    content = [[[turn.role, turn.content] for turn in prompt], sorted(response.content for response in responses)]
    return f"t_{text_digest(json.dumps(content, ensure_ascii=False))[:16]}"


def _known(group: FeedbackGroup, place: str) -> tuple[int, ...]:
    labels = [label for label in group.labels if isinstance(label, Ranking | Choice)]
    if len(labels) != 1:
        raise BadInputError(
            f"{place}: has {len(labels)} labels of kind ranking or choice; expected one, which says what is right"
        )
    ids = [response.response_id for response in group.responses]
    label = labels[0]
    ranks = label.ranks if isinstance(label, Ranking) else {label.chosen: 1, label.rejected: 2}
    if set(ranks) != set(ids) or len(set(ranks.values())) < 2:
        raise BadInputError(f"{place}: the label does not say which of all {len(ids)} answers is better; rank them")
    texts = [response.content.strip() for response in group.responses]
    if "" in texts or len(set(texts)) < len(texts):
        raise BadInputError(f"{place}: two answers are the same, or one is empty; expected different texts")
    return tuple(ranks[name] for name in ids)


def _lines(path: Path, limit: int) -> Iterator[tuple[str, Any]]:
    for source in read_sources([path], limit=limit):
        # Not splitlines(): JSON strings may hold U+2028 and the like as they are.
        with source.open_text("\n") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                place = f"{source.name}:{number}"
                try:
                    content = json.loads(line)
                    json.dumps(content, ensure_ascii=False).encode()
                except UnicodeEncodeError:
                    raise BadInputError(
                        f"{place}: holds half of a surrogate pair (\\ud800 to \\udfff), which is no text; write the "
                        "whole character"
                    ) from None
                except (ValueError, RecursionError) as error:
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else error
                    raise BadInputError(f"{place}: is not JSON ({reason}); expected one record per line") from error
                yield place, content


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg'].removeprefix('Value error, ')}"
