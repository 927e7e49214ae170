"""Finished tasks of ``rewardloop export-tasks --kind uncertain``: Label Studio's JSON export.

In: tasks with an answer and annotations that say whether it is acceptable. Out: one feedback group per prompt and
labeler with that labeler's verdicts on all its answers, so that answers to one prompt can be compared, and a later
export with more annotations adds just those. ``sampling`` is always ``active``: the answers were picked for being hard.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    WITHHELD,
    LabelerId,
    Options,
    Outcome,
    Rejected,
    Repeated,
    Row,
    RowError,
    Skipped,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.label_studio_annotations import (
    choices_of,
    labeled_at,
    labeler_of,
    results_of,
    skipped,
)
from rewardloop.feedback.importers.named_answers import NO_ANNOTATION
from rewardloop.feedback.importers.table import Record, Table, shown
from rewardloop.feedback.uncertain import ACCEPTABLE, SELECTION, UNACCEPTABLE, is_selected, task_id
from rewardloop.records import Acceptable, FeedbackGroup, LabelerKind, Message, Response

_MESSAGES = TypeAdapter(tuple[Message, ...])
_KNOWN = {"prompt", "response", "messages", "segment", "criterion", "task", "selection"}


class VerdictOptions(Options):
    """All else is in the tasks."""

    labeler_kind: LabelerKind = "human"


class _Task(NamedTuple):
    """What all annotations of a task are about."""

    id: str
    prompt: tuple[Message, ...]
    response: str
    segment: str | None
    criterion: str
    source: str


class _Verdict(NamedTuple):
    """One annotation."""

    task: _Task
    labeler: str | None
    acceptable: bool
    at: datetime | None
    row: Row


def _recognizes(table: Table, options: VerdictOptions) -> str | None:
    tasks = [record.values for record in table.first]
    if all(is_selected(task.get("data")) and isinstance(task.get("annotations"), list) for task in tasks):
        return "its tasks are those of rewardloop export-tasks --kind uncertain"
    return None


@importer(
    "label-studio-verdicts",
    "Label Studio's JSON export of answers picked for labeling",
    VerdictOptions,
    recognizes=_recognizes,
    votes=True,
)
def label_studio_verdicts(table: Table, options: VerdictOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each annotation is a row. Drafts and predictions are not looked at."""
    tasks: dict[str, _Task] = {}
    verdicts: dict[tuple[str, str | None, str], _Verdict] = {}
    for record in table.rows():
        for outcome in [record] if isinstance(record, Rejected) else _read(record, tasks):
            if not isinstance(outcome, _Verdict):
                yield outcome
                continue
            # Without an identity every annotation is somebody else's.
            who = outcome.labeler if outcome.labeler is not None else f"\x1f{outcome.row.place} {len(verdicts)}"
            before = verdicts.setdefault((_prompt_of(outcome.task), who, outcome.task.id), outcome)
            if before is not outcome and before.acceptable == outcome.acceptable:
                yield Repeated(outcome.row)
            elif before is not outcome:
                yield Rejected(outcome.row, f"its labeler says otherwise of this answer at {before.row.place}")
    yield from _grouped(tasks, verdicts, options)


def _read(record: Record, tasks: dict[str, _Task]) -> Iterator["Outcome | _Verdict"]:
    """The verdicts of one task, and what is no verdict; a readable task is noted in ``tasks``."""
    annotations = record.values.get("annotations")
    if not isinstance(annotations, list):
        yield Rejected(_row(record, None), "annotations: expected a list")
        return
    try:
        task = _task(record)
    except RowError as error:
        for annotation in annotations or [None]:
            yield Rejected(_row(record, annotation), str(error))
        return
    tasks[task.id] = task
    if not annotations:
        yield Skipped(_row(record, None), NO_ANNOTATION)
    for number, annotation in enumerate(annotations, start=1):
        row = _row(record, annotation)
        if not isinstance(annotation, dict):
            yield Rejected(row, f"annotation {number}: expected an object")
        elif reason := skipped(annotation):
            yield Skipped(row, reason)
        else:
            try:
                yield _Verdict(task, labeler_of(annotation), _acceptable(annotation), labeled_at(annotation), row)
            except RowError as error:
                yield Rejected(row, f"annotation {number}: {error}")


def _task(record: Record) -> _Task:
    data = record.values.get("data")
    if not isinstance(data, dict) or not is_selected(data):
        raise RowError("is not a task of rewardloop export-tasks --kind uncertain")
    response, segment, criterion = data.get("response"), data.get("segment"), data.get("criterion")
    try:
        messages = _MESSAGES.validate_python(data.get("messages"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RowError(f"data.{'.'.join(map(str, ('messages', *first['loc'])))}: {first['msg']}") from None
    if not isinstance(response, str) or not isinstance(criterion, str) or not isinstance(segment, str | None):
        raise RowError("data: expected response, criterion and segment to be texts")
    if data["task"] != task_id([message.model_dump() for message in messages], response):
        raise RowError(f"the texts of task {data['task']} are not those that were exported")
    return _Task(data["task"], messages, response, segment, criterion, f"{SELECTION}{data['selection']}")


def _acceptable(annotation: dict[str, Any]) -> bool:
    choices = choices_of(results_of(annotation))
    if choices not in ([ACCEPTABLE], [UNACCEPTABLE]):
        found = ", ".join(shown(choice) for choice in choices) or "no choice"
        raise RowError(f"found {found}; expected {ACCEPTABLE!r} or {UNACCEPTABLE!r}")
    return choices == [ACCEPTABLE]


def _prompt_of(task: _Task) -> str:
    """What tasks of one group share: the prompt; an answer without a prompt stays alone."""
    turns = [f"{message.role}:{message.content}" for message in task.prompt]
    return content_id(task.source, *(turns or [task.id]))


def _grouped(
    tasks: dict[str, _Task], verdicts: dict[tuple[str, str | None, str], _Verdict], options: VerdictOptions
) -> Iterator[Outcome]:
    """One group per prompt and labeler. All answers of the prompt are in it, so that labelers' groups are one."""
    answers: dict[str, list[_Task]] = {}
    for task in tasks.values():
        answers.setdefault(_prompt_of(task), []).append(task)
    sheets: dict[tuple[str, str | None], list[_Verdict]] = {}
    for (prompt, who, _), verdict in verdicts.items():
        sheets.setdefault((prompt, who), []).append(verdict)
    for (prompt, _), given in sheets.items():
        first = given[0].task
        label = Acceptable(
            labeler=given[0].labeler,
            labeler_kind=options.labeler_kind,
            criterion=first.criterion,
            values={verdict.task.id: verdict.acceptable for verdict in given},
        )
        group = FeedbackGroup(
            group_id=prompt,
            prompt=first.prompt,
            responses=tuple(
                Response(response_id=task.id, content=task.response)
                for task in sorted(answers[prompt], key=lambda one: one.id)
            ),
            labels=(label,),
            labeled_at=max((verdict.at for verdict in given if verdict.at), default=None),
            segment=first.segment,
            source=first.source,
            sampling="active",
        )
        yield Taken(group, tuple(verdict.row for verdict in given))


def _row(record: Record, annotation: Any) -> Row:
    """The row for quarantine: the task's known data and one annotation's verdict; all else may name a person."""
    raw: dict[str, Any] = {"id": _plain(record.values.get("id"))}
    data = record.values.get("data")
    if isinstance(data, dict):
        raw["data"] = {name: value if name in _KNOWN else WITHHELD for name, value in data.items()}
    if isinstance(annotation, dict):
        who = annotation.get("completed_by")
        who = who.get("id") if isinstance(who, dict) else who
        raw["annotation"] = {
            "id": _plain(annotation.get("id")),
            "created_at": _plain(annotation.get("created_at")),
            "choices": [_plain(choice) for choice in choices_of(results_of(annotation))],
            "completed_by": None if who is None else LabelerId(who),
        }
    return Row(record.place, raw)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | str) else WITHHELD
