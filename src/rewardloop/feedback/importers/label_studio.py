"""Pairwise comparisons from Label Studio: its JSON export, a list of tasks with their annotations.

In: tasks whose data hold a prompt and two answers. Out: one feedback group per annotation, so that a later export with
more annotations adds just those. Tasks that ``rewardloop export-tasks`` made are unblinded with the key in the store.
Data keys are the project's own and Label Studio documents no value for ties: both are options.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError, field_validator

from rewardloop.config import ValidationSettings
from rewardloop.feedback.comparisons import (
    POLICY,
    REFERENCE,
    RUN,
    TIE,
    ComparisonKey,
    is_compared,
    load_key,
    task_id,
)
from rewardloop.feedback.importers.base import (
    WITHHELD,
    Column,
    LabelerId,
    LabelOptions,
    Outcome,
    Rejected,
    Row,
    RowError,
    Skipped,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.table import Record, Table, shown
from rewardloop.records import Choice, FeedbackGroup, Label, Message, Ranking, Response, Sampling

CANCELLED = "skipped by their labeler"
NO_RESULT = "without a result"
NO_ANNOTATION = "not annotated yet"

_MESSAGES = TypeAdapter(tuple[Message, ...])
_TIME = TypeAdapter(datetime)
_LEFT, _RIGHT = "a", "b"


class LabelStudioOptions(LabelOptions):
    """``tie``: what a tie is called, as the value of the comparison or of a choice beside it."""

    prompt: Column = "prompt"
    answer1: Column = "answer1"
    answer2: Column = "answer2"
    tie: str | None = None

    @field_validator("tie")
    @classmethod
    def _no_side(cls, tie: str | None) -> str | None:
        if tie in ("left", "right", ""):
            raise ValueError("expected the value of ties; left and right are the answers")
        return tie


class _Task(NamedTuple):
    """What all annotations of a task are about."""

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[Response, Response]
    source: str | None
    sampling: Sampling
    tie: str | None


def _recognizes(table: Table, options: LabelStudioOptions) -> str | None:
    tasks = [record.values for record in table.first]
    if not all(isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list) for task in tasks):
        return None
    if all(is_compared(task["data"]) for task in tasks):  # its first labels may all be ties
        return "its tasks are those of rewardloop export-tasks"
    results = [result for task in tasks for annotation in task["annotations"] for result in _results(annotation)]
    return "its tasks have results of type 'pairwise'" if _values(results, "pairwise") else None


@importer(
    "label-studio-pairwise",
    "Label Studio's JSON export of compared answers",
    LabelStudioOptions,
    recognizes=_recognizes,
)
def label_studio_pairwise(table: Table, options: LabelStudioOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each annotation is a row: a group of two responses with one label. Drafts and predictions are not looked at."""
    keys: dict[str, ComparisonKey] = {}

    def key_of(comparison: str) -> ComparisonKey:
        if table.store is None:
            raise RowError(f"belongs to comparison {comparison[:12]}, whose key is in a store")
        if comparison not in keys:
            keys[comparison] = load_key(table.store, comparison)
        return keys[comparison]

    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
        else:
            yield from _outcomes(record, options, key_of)


def _outcomes(record: Record, options: LabelStudioOptions, key_of: Callable[[str], ComparisonKey]) -> Iterator[Outcome]:
    annotations = record.values.get("annotations")
    if not isinstance(annotations, list):
        yield Rejected(_row(record, None, options), f"annotations: found {_kind(annotations)}; expected a list")
        return
    if not annotations:
        yield Skipped(_row(record, None, options), NO_ANNOTATION)
    for number, annotation in enumerate(annotations, start=1):
        row = _row(record, annotation, options)
        skipped = _skipped(annotation)
        if skipped:
            yield Skipped(row, skipped)
            continue
        try:
            yield Taken(_group(_task(record, options, key_of), annotation, options), (row,))
        except RowError as error:
            yield Rejected(row, f"annotation {number}: {error}")


def _skipped(annotation: Any) -> str | None:
    if not isinstance(annotation, dict):
        return None
    if annotation.get("was_cancelled") is True:
        return CANCELLED
    return NO_RESULT if annotation.get("result") == [] else None


def _task(record: Record, options: LabelStudioOptions, key_of: Callable[[str], ComparisonKey]) -> _Task:
    data = record.values.get("data")
    if not isinstance(data, dict):
        raise RowError(f"data: found {_kind(data)}; expected an object")
    left, right = (
        _text(data, name, field) for name, field in ((options.answer1, "answer1"), (options.answer2, "answer2"))
    )
    if left == right:
        raise RowError("both answers are the same text")
    if is_compared(data):
        return _compared(data, left, right, key_of(data["comparison"]), options)
    prompt = _prompt(data, options)
    turns = [f"{message.role}:{message.content}" for message in prompt]
    responses = (Response(response_id=_LEFT, content=left), Response(response_id=_RIGHT, content=right))
    return _Task(content_id(*turns, left, right), prompt, responses, options.source, options.sampling, options.tie)


def _compared(data: dict[str, Any], left: str, right: str, key: ComparisonKey, options: LabelStudioOptions) -> _Task:
    """A task of a comparison: its key tells whose the answers are, its id whether they are the ones that were sent."""
    task, messages = data["task"], _messages(data.get("messages"), "messages")
    if task not in key.tasks:
        raise RowError(f"task {task} is not one of comparison {key.id[:12]}")
    if task != task_id(key.policy, [message.model_dump() for message in messages], left, right):
        raise RowError(f"the texts of task {task} are not those that were exported")
    names = (POLICY, REFERENCE) if key.tasks[task] == "left" else (REFERENCE, POLICY)
    responses = (
        Response(response_id=_LEFT, content=left, model=f"{names[0]}{key.policy}"),
        Response(response_id=_RIGHT, content=right, model=f"{names[1]}{key.policy}"),
    )
    return _Task(task, messages, responses, f"{RUN}{key.run_id}", "comparison", options.tie or TIE)


def _prompt(data: dict[str, Any], options: LabelStudioOptions) -> tuple[Message, ...]:
    prompt = data.get(options.prompt)
    if isinstance(prompt, list):
        return _messages(prompt, options.prompt)
    if prompt in (None, "") and "prompt" not in options.model_fields_set:
        return ()
    return (Message(role="user", content=_text(data, options.prompt, "prompt")),)


def _text(data: dict[str, Any], name: str, field: str) -> str:
    if name not in data:
        keys = ", ".join(sorted(key[:40] for key in data)[:12]) or "nothing"
        raise RowError(f"data has no {name!r}; found {keys}. Name it: --column {field}=KEY")
    if not isinstance(data[name], str):
        raise RowError(f"data.{name}: found {_kind(data[name])}; expected a text")
    return str(data[name])


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    try:
        return _MESSAGES.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RowError(f"data.{'.'.join(map(str, (name, *first['loc'])))}: {first['msg']}") from None


def _group(task: _Task, annotation: Any, options: LabelStudioOptions) -> FeedbackGroup:
    if not isinstance(annotation, dict):
        raise RowError(f"found {_kind(annotation)}; expected an object")
    try:
        labeled_at = None if annotation.get("created_at") is None else _TIME.validate_python(annotation["created_at"])
    except ValidationError:
        raise RowError(f"created_at: found {shown(annotation['created_at'])}; expected a time") from None
    return FeedbackGroup(
        group_id=task.id,
        prompt=task.prompt,
        responses=task.responses,
        labels=(_label(_verdict(annotation, task.tie), _labeler(annotation), options),),
        labeled_at=labeled_at,
        segment=options.default_segment,
        source=task.source,
        sampling=task.sampling,
    )


def _verdict(annotation: dict[str, Any], tie: str | None) -> Literal["left", "right", "tie"]:
    results = _results(annotation)
    selected = [value.get("selected") for value in _values(results, "pairwise")]
    choices = [choice for value in _values(results, "choices") for choice in _listed(value.get("choices"))]
    if len(selected) > 1:
        raise RowError(f"has {len(selected)} results of type 'pairwise'; expected one")
    tied = tie is not None and tie in [*selected, *choices]
    side = selected[0] if selected and selected[0] != tie else None
    if tied and side is None:
        return "tie"
    if tied:
        raise RowError(f"says both {shown(side)} and {shown(tie)}; expected one of them")
    if side == "left" or side == "right":
        return "left" if side == "left" else "right"
    named = "or name the value of ties: --option tie=VALUE" if tie is None else f"or {shown(tie)} for ties"
    if selected:
        raise RowError(f"selected: found {shown(side)}; expected 'left' or 'right', {named}")
    found = f"the choice {shown(choices[0])}" if choices else "others"
    raise RowError(f"has no result of type 'pairwise', only {found}; expected 'left' or 'right', {named}")


def _label(verdict: Literal["left", "right", "tie"], labeler: str | None, options: LabelStudioOptions) -> Label:
    about: dict[str, Any] = {
        "labeler": labeler,
        "labeler_kind": options.labeler_kind,
        "criterion": options.criterion,
    }
    if verdict == "tie":
        return Ranking(ranks={_LEFT: 1, _RIGHT: 1}, **about)
    chosen, rejected = (_LEFT, _RIGHT) if verdict == "left" else (_RIGHT, _LEFT)
    return Choice(chosen=chosen, rejected=rejected, **about)


def _labeler(annotation: dict[str, Any]) -> str | None:
    """``completed_by`` is an id, or an object with one; whatever else is in it names a person and is not kept."""
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("id", "")
    if who is None:
        return None
    if isinstance(who, bool) or not isinstance(who, int | str) or who == "":
        raise RowError("completed_by: expected a number, a text, or an object with an id")
    return str(who)


def _results(annotation: Any) -> list[dict[str, Any]]:
    results = annotation.get("result") if isinstance(annotation, dict) else None
    return [result for result in _listed(results) if isinstance(result, dict)]


def _values(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    values = [result.get("value") for result in results if result.get("type") == kind]
    return [value if isinstance(value, dict) else {} for value in values]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a JSON {type(value).__name__}"


def _row(record: Record, annotation: Any, options: LabelStudioOptions) -> Row:
    """The row for quarantine: the task's known data and one annotation's verdict; all else may name a person."""
    raw: dict[str, Any] = {"id": _plain(record.values.get("id"))}
    data = record.values.get("data")
    known = {options.prompt, options.answer1, options.answer2, "messages", "comparison", "task"}
    if isinstance(data, dict):
        raw["data"] = {name: value if name in known else WITHHELD for name, value in data.items()}
    if isinstance(annotation, dict):
        results = _results(annotation)
        who = annotation.get("completed_by")
        who = who.get("id") if isinstance(who, dict) else who
        raw["annotation"] = {
            "id": _plain(annotation.get("id")),
            "created_at": _plain(annotation.get("created_at")),
            "selected": [_plain(value.get("selected")) for value in _values(results, "pairwise")],
            "choices": [
                _plain(choice) for value in _values(results, "choices") for choice in _listed(value.get("choices"))
            ],
            "completed_by": None if who is None else LabelerId(who),
        }
    return Row(record.place, raw)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | str) else WITHHELD
