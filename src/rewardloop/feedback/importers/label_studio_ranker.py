"""Rankings of K answers from Label Studio: its JSON export, a list of tasks with their annotations.

In: tasks whose data hold a prompt and a list of items. Out: one feedback group per annotation. The value of a
``Ranker`` comes in four shapes; an order of all items is a ranking as it stands. With buckets Label Studio says which
items lie together and nothing of what that means, so which buckets are ranked, and whether the order inside of one
counts, are options.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import Column, Outcome, RowError, importer
from rewardloop.feedback.importers.label_studio_annotations import (
    NothingSaidError,
    annotation_outcomes,
    data_of,
    has_results,
    labeled_at,
    labeler_of,
    list_in,
    prompt_in,
    results_of,
    value_of,
)
from rewardloop.feedback.importers.label_studio_criteria import (
    Answers,
    CriteriaOptions,
    criterion_results,
    main_results,
    ratings,
)
from rewardloop.feedback.importers.named_answers import Names, about, kind_of, task_content_id
from rewardloop.feedback.importers.quoting import cut
from rewardloop.feedback.importers.table import Record, Table, shown
from rewardloop.feedback.task_keys import is_assigned
from rewardloop.records import FeedbackGroup, Message, Ranking, Response

TOO_FEW = "ranking fewer than two answers"
UNCATEGORISED = "_"
"""The bucket of what nobody moved (Label Studio's documentation of the ``Ranker`` tag)."""
_ONLY_LIST = "rank"
"""What a ranking without buckets is called beside the tag's own name."""


class RankerOptions(CriteriaOptions):
    """Keys of the data and of its items; ``buckets``: those that are ranked, the best first.

    ``within``: what the order inside of a bucket means: a ranking (``order``) or nothing (``ties``).
    """

    prompt: Column = "prompt"
    items: Column = "items"
    id: Column = "id"
    body: Column = "body"
    model: Column = "model"
    buckets: Names = ()
    within: Literal["order", "ties"] | None = None


class _Task(NamedTuple):
    """What all annotations of a task are about."""

    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]


def _recognizes(table: Table, options: RankerOptions) -> str | None:
    tasks = [record.values for record in table.first]
    if not all(isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list) for task in tasks):
        return None
    if all(is_assigned(task["data"]) for task in tasks):  # label-studio-tasks reads them with their key
        return None
    return "its tasks have results of type 'ranker'" if has_results(table, "ranker") else None


@importer(
    "label-studio-ranker",
    "Label Studio's JSON export of ranked answers",
    RankerOptions,
    recognizes=_recognizes,
    votes=True,
)
def label_studio_ranker(table: Table, options: RankerOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each annotation is a row: a group of K responses. Drafts and predictions are not looked at."""
    known = {options.prompt, options.items}
    return annotation_outcomes(
        table, known, lambda record, annotation: _group(_task(record, options), annotation, options)
    )


def _task(record: Record, options: RankerOptions) -> _Task:
    data = data_of(record)
    responses = tuple(_response(item, options) for item in list_in(data, options.items, "items"))
    ids = [response.response_id for response in responses]
    texts = [response.content for response in responses]
    if len(ids) < 2:
        raise RowError(f"data.{options.items}: found {len(ids)} items; expected at least two")
    if len(set(ids)) < len(ids):
        raise RowError(f"data.{options.items}: {_twice(ids)!r} is the id of two items")
    if len(set(texts)) < len(texts):
        first, second = [response.response_id for response in responses if response.content == _twice(texts)][:2]
        raise RowError(f"data.{options.items}: {first!r} and {second!r} are the same text")
    named = "prompt" in options.model_fields_set
    return _Task(prompt_in(data, options.prompt, {options.items}, named=named), responses)


def _twice(values: list[str]) -> str:
    return next(value for value, times in Counter(values).items() if times > 1)


def _response(item: Any, options: RankerOptions) -> Response:
    place = f"data.{options.items}"
    if not isinstance(item, dict):
        raise RowError(f"{place}: found {kind_of(item)}; expected objects with an id and a text")
    key = item.get(options.id)
    if isinstance(key, bool) or not isinstance(key, int | str) or key == "":
        raise RowError(f"{place}: an item has no {options.id!r}; found {_keys(item)}. Name it: --column id=KEY")
    if not isinstance(item.get(options.body), str):
        raise RowError(
            f"{place}: item {shown(key)} has no text {options.body!r}; found {_keys(item)}. Name the key of the "
            "answer's text: --column body=KEY"
        )
    model = item.get(options.model)
    return Response(response_id=str(key), content=item[options.body], model=model if isinstance(model, str) else None)


def _keys(item: dict[str, Any]) -> str:
    return ", ".join(sorted(key[:40] for key in item)[:12]) or "nothing"


def _group(task: _Task, annotation: dict[str, Any], options: RankerOptions) -> FeedbackGroup:
    at = labeled_at(annotation)
    labeler, results = labeler_of(annotation), results_of(annotation)
    ids = {response.response_id: place for place, response in enumerate(task.responses)}
    beside = [
        Ranking(ranks=ranks, **about(labeler, options, criterion))
        for criterion, result in criterion_results(results, "ranker", options).items()
        if len(ranks := ranks_of(result, ids, options)) > 1
    ]
    labels = [*beside, *ratings(results, Answers({key: key for key in ids}, list(ids)), labeler, options)]
    main = main_results(results, "ranker", options)
    if len(main) > 1:
        raise RowError(
            f"has {len(main)} results of type 'ranker'; expected one, and the names of the tags of criteria: "
            "--option criteria=NAME,NAME"
        )
    ranks = ranks_of(main[0], ids, options) if main else {}
    if len(ranks) > 1:
        labels.insert(0, Ranking(ranks=ranks, **about(labeler, options, options.criterion)))
    if not labels and not main:
        raise RowError("has no result of type 'ranker'")
    if not labels:
        raise NothingSaidError(TOO_FEW)
    return FeedbackGroup(
        group_id=task_content_id(task.prompt, task.responses),
        prompt=task.prompt,
        responses=task.responses,
        labels=tuple(labels),
        labeled_at=at,
        segment=options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def ranks_of(result: dict[str, Any], ids: Mapping[str, int], options: RankerOptions) -> dict[str, int]:
    """Ranks by item id, 1 is best; items that nobody placed have none.

    Args:
        result: of a ``Ranker``; its value is a list of ids, such a list under the tag's name, or buckets.
        ids: of the task's items, with their places.
        options: which buckets are ranked.

    Raises:
        RowError: another shape, unknown or repeated ids, or buckets of which no option says what they mean.
    """
    value = value_of(result)
    found = value.get("ranker", value.get("rank"))
    if isinstance(found, list):
        return _in_order(_checked(found, ids))
    if not isinstance(found, dict) or not all(isinstance(items, list) for items in found.values()):
        raise RowError(f"ranker: found {kind_of(found)}; expected a list of ids, or lists of ids by bucket")
    buckets = {name: _checked(items, ids) for name, items in found.items()}
    _checked([key for items in buckets.values() for key in items], ids)
    names = list(buckets)
    if len(names) == 1 and names[0] in (_ONLY_LIST, result.get("from_name")) and names[0] not in options.buckets:
        return _in_order(buckets[names[0]])
    return _by_bucket(buckets, options)


def _in_order(ids: list[str]) -> dict[str, int]:
    return {key: rank for rank, key in enumerate(ids, start=1)}


def _by_bucket(buckets: dict[str, list[str]], options: RankerOptions) -> dict[str, int]:
    """Ranks of the items in the ranked buckets; equal ranks leave a gap behind them (1, 1, 3)."""
    if not options.buckets:
        if not any(items for name, items in buckets.items() if name != UNCATEGORISED):
            return {}
        names = ", ".join(name[:40] for name in buckets if name != UNCATEGORISED)
        raise RowError(
            f"ranker: has the buckets {names}; say which are ranked, the best first: --option buckets=NAME,NAME"
        )
    ranks: dict[str, int] = {}
    for bucket in options.buckets:
        items = buckets.get(bucket, [])
        if len(items) > 1 and options.within is None:
            raise RowError(
                f"ranker: bucket {bucket!r} has {len(items)} items; say what their order means: --option within=order "
                "(a ranking) or --option within=ties (nothing)"
            )
        first = len(ranks) + 1
        for place, key in enumerate(items):
            ranks[key] = first + place if options.within == "order" else first
    return ranks


def _checked(items: list[Any], ids: Mapping[str, int]) -> list[str]:
    """Ids as texts, each known and only once."""
    named: dict[str, None] = {}
    for item in items:
        key = str(item) if isinstance(item, int | str) and not isinstance(item, bool) else None
        if key is None or key not in ids:
            raise RowError(f"ranker: names the item {shown(item)}; the task has {cut(', '.join(ids), 200)}")
        if key in named:
            raise RowError(f"ranker: names the item {shown(item)} twice")
        named[key] = None
    return list(named)
