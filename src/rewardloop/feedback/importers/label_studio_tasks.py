"""Finished tasks of ``rewardloop export-tasks --kind pairwise|ranker``, as Label Studio exports them.

In: tasks with their annotations, and the key in the store. Out: one feedback group per annotation, with the answers'
models, the overall verdict, one label for each criterion that was judged beside it, and for controls the known answer.
Nothing is an option: the key knows what was asked.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rewardloop.config import KNOWN_ANSWER, ValidationSettings
from rewardloop.feedback.importers.base import Options, Outcome, RowError, importer
from rewardloop.feedback.importers.label_studio_annotations import (
    annotation_outcomes,
    choices_of,
    data_of,
    labeled_at,
    labeler_of,
    list_in,
    messages_in,
    results_of,
    text_in,
    value_of,
    values_of,
)
from rewardloop.feedback.importers.table import Record, Table, shown
from rewardloop.feedback.task_keys import (
    ANSWERS,
    ITEMS,
    KEY,
    MESSAGES,
    PROMPT,
    RANK,
    TASK,
    TIE,
    ShownAnswers,
    TaskKey,
    is_assigned,
    load_task_key,
    task_name,
)
from rewardloop.records import Choice, FeedbackGroup, Label, Message, Ranking, Rating, Response

_SIDES = ("left", "right")


class LabelStudioTasksOptions(Options):
    """Everything is in the key."""


class _Task(NamedTuple):
    key: TaskKey
    shown: ShownAnswers
    prompt: tuple[Message, ...]
    texts: list[str]
    names: list[str]
    """What the task's data call the answers."""


def _recognizes(table: Table, options: LabelStudioTasksOptions) -> str | None:
    tasks = [record.values for record in table.first]
    if all(isinstance(task.get("annotations"), list) and is_assigned(task.get("data")) for task in tasks):
        return "its tasks are those of rewardloop export-tasks for new answers"
    return None


@importer(
    "label-studio-tasks",
    "what people said on tasks of rewardloop export-tasks for new answers",
    LabelStudioTasksOptions,
    recognizes=_recognizes,
    votes=True,
)
def label_studio_tasks(table: Table, options: LabelStudioTasksOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each annotation is a row: a group with the labels of one person. Drafts and predictions are not looked at."""
    keys: dict[str, TaskKey] = {}

    def key_of(wanted: str) -> TaskKey:
        if table.store is None:
            raise RowError(f"belongs to labeling {wanted[:12]}, whose key is in a store")
        if wanted not in keys:
            keys[wanted] = load_task_key(table.store, wanted)
        return keys[wanted]

    known = {PROMPT, *ANSWERS, ITEMS, MESSAGES, TASK, KEY}
    return annotation_outcomes(table, known, lambda record, annotation: _group(_task(record, key_of), annotation))


def _task(record: Record, key_of: Callable[[str], TaskKey]) -> _Task:
    data = data_of(record)
    if not is_assigned(data):
        raise RowError(f"data.{KEY} or data.{TASK} is missing; keep them as they were exported")
    key, name = key_of(data[KEY]), data[TASK]
    if name not in key.tasks:
        raise RowError(f"task {name} is not one of labeling {key.id[:12]}")
    prompt = messages_in(data.get(MESSAGES), MESSAGES)
    if key.kind == "pairwise":
        names, texts = list(ANSWERS), [text_in(data, answer, answer) for answer in ANSWERS]
    else:
        items = [item if isinstance(item, dict) else {} for item in list_in(data, ITEMS, ITEMS)]
        names, texts = ([str(item.get(field)) for item in items] for field in ("id", "body"))
    if name != task_name(prompt, texts):
        raise RowError(f"the texts of task {name} are not those that were exported")
    return _Task(key, key.tasks[name], prompt, texts, names)


def _group(task: _Task, annotation: dict[str, Any]) -> FeedbackGroup:
    labeler, results = labeler_of(annotation), results_of(annotation)
    overall = _compared(results, task) if task.key.kind == "pairwise" else _ranked(results, task)
    labels: list[Label] = [_preference(overall, task, labeler, task.key.criterion)]
    labels += [
        label
        for tag, criterion in task.key.criteria.items()
        if (label := _beside(results, tag, criterion, task, labeler)) is not None
    ]
    about = task.shown
    if about.known is not None:
        ranks = dict(zip(about.response_ids, about.known, strict=True))
        labels.append(Ranking(labeler_kind="signal", criterion=KNOWN_ANSWER, ranks=ranks))
    return FeedbackGroup(
        group_id=about.item,
        prompt=task.prompt,
        responses=tuple(
            Response(response_id=name, content=text, model=model)
            for name, text, model in zip(about.response_ids, task.texts, about.models, strict=True)
        ),
        labels=tuple(labels),
        labeled_at=labeled_at(annotation),
        segment=about.segment,
        sampling=about.sampling,
    )


def _compared(results: Sequence[dict[str, Any]], task: _Task) -> list[int]:
    """Ranks by place: of the pairwise result, or of the tie beside it."""
    beside = list(task.key.criteria)  # what a file has in place of a name need not be hashable
    own = [result for result in results if result.get("from_name") not in beside]
    selected = [value.get("selected") for value in values_of(own, "pairwise")]
    tied = TIE in choices_of(own)
    if len(selected) > 1:
        raise RowError(f"has {len(selected)} results of type 'pairwise'; expected one")
    if tied and selected:
        raise RowError(f"says both {shown(selected[0])} and {TIE!r}; expected one of them")
    if tied:
        return [1, 1]
    if not selected:
        raise RowError(f"has no result of type 'pairwise' and no {TIE!r}; expected a verdict")
    return _side(selected[0])


def _side(value: Any) -> list[int]:
    if value not in (*_SIDES, TIE):
        raise RowError(f"found {shown(value)}; expected 'left', 'right' or {TIE!r}")
    return {"left": [1, 2], "right": [2, 1], TIE: [1, 1]}[value]


def _ranked(results: Sequence[dict[str, Any]], task: _Task) -> list[int]:
    """Ranks by place, of a ranker without buckets."""
    ranked = [result for result in results if result.get("type") == "ranker" and result.get("from_name") == RANK]
    if len(ranked) != 1:
        raise RowError(f"has {len(ranked)} results of the ranker {RANK!r}; expected one")
    order = value_of(ranked[0]).get("ranker")
    order = order.get("rank") if isinstance(order, dict) else order
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(task.names):
        raise RowError(f"rank: found {shown(order)}; expected each of {', '.join(task.names)} once")
    places = {str(name): place for place, name in enumerate(order, start=1)}
    return [places[name] for name in task.names]


def _preference(ranks: list[int], task: _Task, labeler: str | None, criterion: str) -> Label:
    ids = task.shown.response_ids
    if len(ids) == 2 and ranks[0] != ranks[1]:
        chosen, rejected = ids if ranks[0] < ranks[1] else ids[::-1]
        return Choice(labeler=labeler, criterion=criterion, chosen=chosen, rejected=rejected)
    return Ranking(labeler=labeler, criterion=criterion, ranks=dict(zip(ids, ranks, strict=True)))


def _beside(
    results: Sequence[dict[str, Any]], tag: str, criterion: str, task: _Task, labeler: str | None
) -> Label | None:
    """What was said of one criterion: a comparison, or stars for each answer; None where nothing was."""
    chosen = choices_of([result for result in results if result.get("from_name") == tag])
    if len(chosen) > 1:
        raise RowError(f"{tag}: has {len(chosen)} choices; expected one")
    if chosen:
        return _preference(_side(chosen[0]), task, labeler, criterion)
    scores: dict[str, float] = {}
    for name, response in zip(task.names, task.shown.response_ids, strict=True):
        rated = values_of([result for result in results if result.get("from_name") == f"{tag}_{name}"], "rating")
        if not rated:
            continue
        stars, most = rated[0].get("rating"), task.key.rating_stars
        if len(rated) > 1:
            raise RowError(f"{tag}_{name}: has {len(rated)} ratings; expected one")
        if isinstance(stars, bool) or not isinstance(stars, int) or not 1 <= stars <= most:
            raise RowError(f"{tag}_{name}: found {shown(stars)}; expected 1 to {most} stars")
        scores[response] = float(stars)
    if not scores:
        return None
    return Rating(labeler=labeler, criterion=criterion, scores=scores, scale=(1.0, float(task.key.rating_stars)))
