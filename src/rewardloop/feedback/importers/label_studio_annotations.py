"""Label Studio's JSON export: tasks with their annotations, whatever the labelers were asked. Shared by its importers.

In: a table of tasks, and a function that makes a feedback group of one annotation. Out: outcomes, one per annotation.
Also the parts of a task and of an annotation that all of Label Studio's tags share.
"""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rewardloop.feedback.importers.base import (
    WITHHELD,
    LabelerId,
    Outcome,
    Rejected,
    Row,
    RowError,
    Skipped,
    Taken,
)
from rewardloop.feedback.importers.named_answers import NO_ANNOTATION, check_no_prompt, kept, kind_of
from rewardloop.feedback.importers.table import Record, Table, shown
from rewardloop.records import FeedbackGroup, Message

CANCELLED = "skipped by their labeler"
NO_RESULT = "without a result"

_MESSAGES = TypeAdapter(tuple[Message, ...])
_TIME = TypeAdapter(datetime)
_VERDICTS = ("selected", "choices", "ranker", "rank", "rating")
"""What a result's value may hold in quarantine; texts that labelers wrote are not among it."""


class NothingSaidError(Exception):
    """An annotation in which nothing is judged; importers turn it into ``Skipped``."""


def annotation_outcomes(
    table: Table, known: Collection[str], group_of: Callable[[Record, dict[str, Any]], FeedbackGroup]
) -> Iterator[Outcome]:
    """One outcome per annotation; drafts and predictions are not looked at.

    Args:
        table: of tasks.
        known: keys of the tasks' data that quarantine may show.
        group_of: the group of one annotation; raises ``RowError`` or ``NothingSaidError``.
    """
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
        else:
            yield from _of_task(record, known, group_of)


def _of_task(
    record: Record, known: Collection[str], group_of: Callable[[Record, dict[str, Any]], FeedbackGroup]
) -> Iterator[Outcome]:
    annotations = record.values.get("annotations")
    if not isinstance(annotations, list):
        yield Rejected(quarantined(record, None, known), f"annotations: found {kind_of(annotations)}; expected a list")
        return
    if not annotations:
        yield Skipped(quarantined(record, None, known), NO_ANNOTATION)
    for number, annotation in enumerate(annotations, start=1):
        row = quarantined(record, annotation, known)
        reason = skipped(annotation)
        if reason:
            yield Skipped(row, reason)
            continue
        try:
            if not isinstance(annotation, dict):
                raise RowError(f"found {kind_of(annotation)}; expected an object")
            yield Taken(group_of(record, annotation), (row,))
        except NothingSaidError as nothing:
            yield Skipped(row, str(nothing))
        except RowError as error:
            yield Rejected(row, f"annotation {number}: {error}")


def skipped(annotation: Any) -> str | None:
    """Why, by its own words, nobody judged anything in an annotation, or None."""
    if not isinstance(annotation, dict):
        return None
    if annotation.get("was_cancelled") is True:
        return CANCELLED
    return NO_RESULT if annotation.get("result") == [] else None


def data_of(record: Record) -> dict[str, Any]:
    """The task's ``data``."""
    data = record.values.get("data")
    if not isinstance(data, dict):
        raise RowError(f"data: found {kind_of(data)}; expected an object")
    return data


def text_in(data: dict[str, Any], name: str, field: str) -> str:
    """The text under key ``name``, which ``--column field=`` sets."""
    return str(_typed(data, name, field, str, "a text"))


def list_in(data: dict[str, Any], name: str, field: str) -> list[Any]:
    """The list under key ``name``, which ``--column field=`` sets."""
    return list(_typed(data, name, field, list, "a list"))


def _typed(data: dict[str, Any], name: str, field: str, wanted: type, words: str) -> Any:
    if name not in data:
        keys = ", ".join(sorted(key[:40] for key in data)[:12]) or "nothing"
        raise RowError(f"data has no {name!r}; found {keys}. Name it: --column {field}=KEY")
    if not isinstance(data[name], wanted):
        raise RowError(f"data.{name}: found {kind_of(data[name])}; expected {words}")
    return data[name]


def messages_in(value: Any, name: str) -> tuple[Message, ...]:
    """A list of messages under key ``name`` of the data."""
    try:
        return _MESSAGES.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RowError(f"data.{'.'.join(map(str, (name, *first['loc'])))}: {first['msg']}") from None


def prompt_in(data: dict[str, Any], name: str, others: Collection[str], *, named: bool) -> tuple[Message, ...]:
    """The prompt under key ``name``, a text or a list of messages; empty where it is, or where no other key may be it.

    ``others``: keys of the data that are no prompt; ``named``: somebody said that this is its name.
    """
    prompt = data.get(name)
    if isinstance(prompt, list):
        return messages_in(prompt, name)
    if prompt in (None, ""):
        check_no_prompt(data, name, others, named=named)
        return ()
    return (Message(role="user", content=text_in(data, name, "prompt")),)


def labeler_of(annotation: dict[str, Any]) -> str | None:
    """``completed_by`` is an id, or an object with one; whatever else is in it names a person and is not kept."""
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("id", "")
    if who is None:
        return None
    if isinstance(who, bool) or not isinstance(who, int | str) or who == "":
        raise RowError("completed_by: expected a number, a text, or an object with an id")
    return str(who)


def labeled_at(annotation: dict[str, Any]) -> datetime | None:
    """``created_at``, if there."""
    try:
        return None if annotation.get("created_at") is None else _TIME.validate_python(annotation["created_at"])
    except ValidationError:
        raise RowError(f"created_at: found {shown(annotation['created_at'])}; expected a time") from None


def results_of(annotation: Any) -> list[dict[str, Any]]:
    """What the labeler entered: one entry per tag."""
    results = annotation.get("result") if isinstance(annotation, dict) else None
    return [result for result in listed(results) if isinstance(result, dict)]


def has_results(table: Table, kind: str) -> bool:
    """Whether any annotation has a result of this type; the first tasks of an export may wait for their labels."""
    return any(
        result.get("type") == kind
        for record in table.rows()
        if isinstance(record, Record)
        for annotation in listed(record.values.get("annotations"))
        for result in results_of(annotation)
    )


def value_of(result: dict[str, Any]) -> dict[str, Any]:
    """The ``value`` of a result; empty where it is none."""
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def values_of(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The values of all results of one type."""
    return [value_of(result) for result in results if result.get("type") == kind]


def choices_of(results: list[dict[str, Any]]) -> list[Any]:
    """What was chosen in all ``Choices`` tags."""
    return [choice for value in values_of(results, "choices") for choice in listed(value.get("choices"))]


def listed(value: Any) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def quarantined(record: Record, annotation: Any, known: Collection[str]) -> Row:
    """The row for quarantine: the task's known data and one annotation's verdict; all else may name a person."""
    raw: dict[str, Any] = {"id": _plain(record.values.get("id"))}
    data = record.values.get("data")
    if isinstance(data, dict):
        raw["data"] = {name: kept(value) if name in known else WITHHELD for name, value in data.items()}
    if isinstance(annotation, dict):
        who = annotation.get("completed_by")
        who = who.get("id") if isinstance(who, dict) else who
        raw["annotation"] = {
            "id": _plain(annotation.get("id")),
            "created_at": _plain(annotation.get("created_at")),
            "result": [_verdict(result) for result in results_of(annotation)],
            "completed_by": None if who is None else LabelerId(who),
        }
    return Row(record.place, raw)


def _verdict(result: dict[str, Any]) -> dict[str, Any]:
    value = value_of(result)
    raw: dict[str, Any] = {
        name: _plain(result.get(name)) for name in ("type", "from_name", "to_name") if name in result
    }
    return raw | {"value": {name: kept(value[name]) if name in _VERDICTS else WITHHELD for name in value}}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | str) else WITHHELD
