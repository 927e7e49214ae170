"""Pairwise comparisons from Label Studio: its JSON export, a list of tasks with their annotations.

In: tasks whose data hold a prompt and two answers. Out: one feedback group per annotation, so that a later export with
more annotations adds just those. Tasks that ``rewardloop export-tasks`` made are unblinded with the key in the store.
Data keys are the project's own and Label Studio documents no value for ties: both are options.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pydantic import field_validator

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
from rewardloop.feedback.importers.base import Column, Outcome, RowError, content_id, importer
from rewardloop.feedback.importers.label_studio_annotations import (
    annotation_outcomes,
    choices_of,
    data_of,
    has_results,
    labeled_at,
    labeler_of,
    messages_in,
    prompt_in,
    results_of,
    text_in,
    value_of,
)
from rewardloop.feedback.importers.label_studio_criteria import (
    Answers,
    CriteriaOptions,
    Verdict,
    comparisons,
    main_results,
    ratings,
    verdict_label,
)
from rewardloop.feedback.importers.named_answers import about
from rewardloop.feedback.importers.table import Record, Table, shown
from rewardloop.feedback.task_keys import is_assigned
from rewardloop.records import FeedbackGroup, Message, Response, Sampling

_LEFT, _RIGHT = "a", "b"


class LabelStudioOptions(CriteriaOptions):
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
    if all(is_assigned(task["data"]) for task in tasks):  # label-studio-tasks reads them with their key
        return None
    if all(is_compared(task["data"]) for task in tasks):  # its first labels may all be ties
        return "its tasks are those of rewardloop export-tasks"
    return "its tasks have results of type 'pairwise'" if has_results(table, "pairwise") else None


@importer(
    "label-studio-pairwise",
    "Label Studio's JSON export of compared answers",
    LabelStudioOptions,
    recognizes=_recognizes,
    votes=True,
)
def label_studio_pairwise(table: Table, options: LabelStudioOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each annotation is a row: a group of two responses. Drafts and predictions are not looked at."""
    keys: dict[str, ComparisonKey] = {}

    def key_of(comparison: str) -> ComparisonKey:
        if table.store is None:
            raise RowError(f"belongs to comparison {comparison[:12]}, whose key is in a store")
        if comparison not in keys:
            keys[comparison] = load_key(table.store, comparison)
        return keys[comparison]

    known = {options.prompt, options.answer1, options.answer2, "messages", "comparison", "task"}
    return annotation_outcomes(
        table, known, lambda record, annotation: _group(_task(record, options, key_of), annotation, options)
    )


def _task(record: Record, options: LabelStudioOptions, key_of: Callable[[str], ComparisonKey]) -> _Task:
    data = data_of(record)
    left, right = text_in(data, options.answer1, "answer1"), text_in(data, options.answer2, "answer2")
    if left == right:
        raise RowError("both answers are the same text")
    if is_compared(data):
        return _compared(data, left, right, key_of(data["comparison"]), options)
    answers = {options.answer1, options.answer2}
    prompt = prompt_in(data, options.prompt, answers, named="prompt" in options.model_fields_set)
    turns = [f"{message.role}:{message.content}" for message in prompt]
    responses = (Response(response_id=_LEFT, content=left), Response(response_id=_RIGHT, content=right))
    return _Task(content_id(*turns, left, right), prompt, responses, options.source, options.sampling, options.tie)


def _compared(data: dict[str, Any], left: str, right: str, key: ComparisonKey, options: LabelStudioOptions) -> _Task:
    """A task of a comparison: its key tells whose the answers are, its id whether they are the ones that were sent."""
    task, messages = data["task"], messages_in(data.get("messages"), "messages")
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


def _group(task: _Task, annotation: dict[str, Any], options: LabelStudioOptions) -> FeedbackGroup:
    at = labeled_at(annotation)
    labeler, results = labeler_of(annotation), results_of(annotation)
    answers = Answers({options.answer1: _LEFT, options.answer2: _RIGHT})
    beside = [
        *comparisons(results, (_LEFT, _RIGHT), task.tie, labeler, options),
        *ratings(results, answers, labeler, options),
    ]
    verdict = _verdict(results, task.tie, options, needed=not beside)
    main = [verdict_label(verdict, _LEFT, _RIGHT, about(labeler, options, options.criterion))] if verdict else []
    return FeedbackGroup(
        group_id=task.id,
        prompt=task.prompt,
        responses=task.responses,
        labels=(*main, *beside),
        labeled_at=at,
        segment=options.default_segment,
        source=task.source,
        sampling=task.sampling,
    )


def _verdict(
    results: list[dict[str, Any]], tie: str | None, options: LabelStudioOptions, *, needed: bool
) -> Verdict | None:
    """The main verdict; None where there is none and criteria were judged (not ``needed``)."""
    selected = [value_of(result).get("selected") for result in main_results(results, "pairwise", options)]
    choices = choices_of(main_results(results, "choices", options))
    if len(selected) > 1:
        raise RowError(
            f"has {len(selected)} results of type 'pairwise'; expected one, and the names of the tags of criteria: "
            "--option criteria=NAME,NAME"
        )
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
    if not needed:
        return None
    found = f"the choice {shown(choices[0])}" if choices else "others"
    raise RowError(f"has no result of type 'pairwise', only {found}; expected 'left' or 'right', {named}")
