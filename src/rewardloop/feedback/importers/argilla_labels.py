"""What one labeler's answers to an Argilla record say: its options, a record of any shape, and labels.

In: a record and the answers of one labeler. Out: a feedback group. A list of names is a ranking, rank numbers beside
the names may tie, one name is a choice, a number rates.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rewardloop.feedback.importers.base import (
    Column,
    RowError,
    Scale,
)
from rewardloop.feedback.importers.named_answers import (
    Names,
    ResponseOptions,
    about,
    choice_labels,
    prompt_of,
    ranking_of,
    response_fields,
    response_named,
    responses_in,
    task_content_id,
)
from rewardloop.feedback.importers.table import number, shown
from rewardloop.records import FeedbackGroup, Label, Ranking, Rating


class ArgillaOptions(ResponseOptions):
    """``question`` is what is learned from; ``criteria``: names of further rating questions, ``scale``: of theirs."""

    question: Column = "ranking"
    criteria: Names = ()
    scale: Scale = None


class Answer(NamedTuple):
    """One labeler's answer to one question; ``status`` is None where the shape does not tell it."""

    question: str
    labeler: Any
    value: Any
    status: Any = None


class ArgillaRecord(NamedTuple):
    """A record of any shape."""

    place: str
    fields: Mapping[str, Any]
    metadata: Mapping[str, Any]
    answers: Sequence[Answer]


def rated_by(record: ArgillaRecord, answer: Answer, options: ArgillaOptions) -> tuple[str, str | None] | None:
    """(criterion, the field it is about; None for the only response) of a rating question: ``tone_response_1``."""
    for criterion in options.criteria:
        if answer.question == criterion:
            return criterion, None
        for field in response_fields(record.fields, options):
            if answer.question in (f"{criterion}_{field}", f"{criterion}-{field}"):
                return criterion, field
    return None


def group_of(record: ArgillaRecord, answers: list[Answer], question: str, options: ArgillaOptions) -> FeedbackGroup:
    """What one labeler said of a record.

    Raises:
        RowError: an answer is none of the known shapes, or names what is no response.
    """
    responses = responses_in(record.fields, options)
    prompt = prompt_of(record.fields, options)
    labeler = _labeler(answers[0].labeler)
    ids = [response.response_id for response in responses]
    main = [answer for answer in answers if answer.question == question]
    labels = [*(_label_of(main[0], ids, labeler, options) if main else [])]
    labels += _ratings(record, [answer for answer in answers if answer not in main], ids, labeler, options)
    segment = record.metadata.get(options.segment, record.fields.get(options.segment))
    return FeedbackGroup(
        group_id=task_content_id(prompt, responses),
        prompt=prompt,
        responses=responses,
        labels=tuple(labels),
        segment=segment if isinstance(segment, str) and segment else options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _label_of(answer: Answer, ids: list[str], labeler: str | None, options: ArgillaOptions) -> list[Label]:
    """The labels of the main question: a ranking, a rating of the only response, or a choice between responses."""
    fields = about(labeler, options, options.criterion)
    value, name = answer.value, answer.question
    if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        return [Ranking(ranks=_ranks_with_numbers(value, ids, name, options), **fields)]
    if isinstance(value, list):
        ranks = ranking_of(value, ids, name, options)
        if len(ranks) < len(ids):
            # A question with several answers looks the same, and says nothing of their order.
            raise RowError(
                f"{name}: names {len(ranks)} of {len(ids)} responses; a ranking has all of them. Name the ranked "
                "fields: --column responses=FIELD+FIELD"
            )
        return [Ranking(ranks=ranks, **fields)]
    if isinstance(value, str):
        return choice_labels(value, ids, name, fields, options)
    if len(ids) != 1:
        raise RowError(f"{name}: found {shown(value)}; expected a ranking or the name of a response ({', '.join(ids)})")
    return [Rating(scores={ids[0]: number(value, name, options.scale)}, scale=options.scale, **fields)]


def _ranks_with_numbers(value: Any, ids: list[str], name: str, options: ArgillaOptions) -> dict[str, int]:
    """``{"rank": [1, 1], "value": [..]}`` or a list of ``{"rank": 1, "value": ..}``; without a rank: not judged."""
    if isinstance(value, dict):
        numbers, names = value.get("rank"), value.get("value")
        if not isinstance(numbers, list) or not isinstance(names, list) or len(numbers) != len(names):
            raise RowError(f"{name}: expected the lists 'rank' and 'value' of one length")
        pairs = list(zip(numbers, names, strict=True))
    else:
        if not all(isinstance(one, dict) for one in value):
            raise RowError(f"{name}: expected objects with 'rank' and 'value'")
        pairs = [(one.get("rank"), one.get("value")) for one in value]
        if all(rank is None for rank, _ in pairs):  # in the order of the server's own records
            return ranking_of([answer for _, answer in pairs], ids, name, options)
    ranks: dict[str, int] = {}
    for rank, answer in pairs:
        key = response_named(answer, ids, name, options)
        if key in ranks:
            raise RowError(f"{name}: names {shown(answer)} twice")
        if rank is None:
            continue
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise RowError(f"{name}: rank of {shown(answer)}: found {shown(rank)}; expected a number from 1")
        ranks[key] = rank
    if len(ranks) < 2:
        raise RowError(f"{name}: ranks {len(ranks)} responses; expected at least two")
    return ranks


def _ratings(
    record: ArgillaRecord, answers: list[Answer], ids: list[str], labeler: str | None, options: ArgillaOptions
) -> list[Label]:
    scores: dict[str, dict[str, float]] = {}
    for answer in answers:
        criterion, field = rated_by(record, answer, options) or (answer.question, None)
        if field is None and len(ids) > 1:
            raise RowError(
                f"{answer.question}: does not tell which of {', '.join(ids)} it rates; expected a question whose name "
                "ends in it"
            )
        score = number(answer.value, answer.question, options.scale)
        scores.setdefault(criterion, {})[ids[0] if field is None else field] = score
    return [
        Rating(scores=given, scale=options.scale, **about(labeler, options, criterion))
        for criterion, given in scores.items()
    ]


def _labeler(who: Any) -> str | None:
    if who is None:
        return None
    if isinstance(who, bool) or not isinstance(who, int | str) or who == "":
        raise RowError("user_id: expected an id")
    return str(who)
