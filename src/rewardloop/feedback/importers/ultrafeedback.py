"""UltraFeedback: completions of several models, each rated by GPT-4 on several criteria and as a whole.

In: rows with ``instruction`` and ``completions``, of which each has a response, ``annotations`` (criterion -> a
``Rating`` from 1 to 5, as text, or "N/A") and perhaps an ``overall_score`` from 1 to 10. Out: one group of K responses
per row with one ``rating`` per criterion. Critiques and rationales are not used.

An ``overall_score`` of 10 may have been a 1: the data's authors call those faulty whose mean rating is at most 4 (their
README, "Update", and ``fix_overall_score_issue.py``). Such scores are left out and counted.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Rejected,
    RowError,
    Skipped,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.compared import Values
from rewardloop.feedback.importers.messages import json_cell
from rewardloop.feedback.importers.table import Record, Table, number, optional_text, raw_row, shown, text_of
from rewardloop.records import FeedbackGroup, LabelerKind, Message, Rating, Response

NOT_APPLICABLE = "ratings N/A"
FAULTY_TEN = "overall scores of 10 with a mean rating of 4 or less"
NO_SCORE = "completions without an overall score"
EMPTY, REPEATED = "empty completions", "completions that repeat another one"
NO_RATING = "without a rating"

_NA = ("n/a", "na", "")
_TEN, _DOUBTFUL = 10.0, 4.0


class UltraFeedbackOptions(LabelOptions):
    """``overall``: what rates a completion as a whole (criterion ``criterion``): its ``overall_score``, the mean of its
    other ratings, or nothing. ``tens``: what becomes of faulty scores of 10. ``criteria``: those to take; all."""

    instruction: Column = "instruction"
    completions: Column = "completions"
    segment: Column = "source"
    labeler_kind: LabelerKind = "model"
    labeler: str = "gpt-4"
    overall: Literal["score", "mean", "none"] = "score"
    tens: Literal["leave-out", "keep"] = "leave-out"
    criteria: Values = ()


@dataclass(frozen=True)
class _Completion:
    text: str
    model: str | None
    ratings: dict[str, float]
    overall: float | None


def _recognizes(table: Table, options: UltraFeedbackOptions) -> str | None:
    if options.instruction not in table.columns:
        return None
    # One annotated row is enough: a row without completions is a row's mistake, and gets a reason or is counted.
    if not any(_is_annotated(record.values.get(options.completions)) for record in table.first):
        return None
    return f"it has {options.instruction!r} and {options.completions!r} with annotations"


def _is_annotated(listed: Any) -> bool:
    if not isinstance(listed, list) or not listed:
        return False
    return all(isinstance(one, dict) and {"response", "annotations"} <= set(one) for one in listed)


@importer("ultrafeedback", "completions rated on several criteria", UltraFeedbackOptions, recognizes=_recognizes)
def ultrafeedback(table: Table, options: UltraFeedbackOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is a group. What is left out of a row that is taken is counted with its reason."""
    instruction, completions = (table.required_column(options, name) for name in ("instruction", "completions"))
    segment = table.column(options, "segment")
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = raw_row(record, keep=[instruction, completions, segment])
        left_out: Counter[str] = Counter()
        try:
            group = _group(record, instruction, completions, segment, options, left_out)
        except RowError as error:
            yield Rejected(row, str(error))
            continue
        yield Taken(group, (row,), left_out=tuple(left_out.elements())) if group else Skipped(row, NO_RATING)


def _group(
    record: Record,
    instruction: str,
    completions: str,
    segment: str | None,
    options: UltraFeedbackOptions,
    left_out: Counter[str],
) -> FeedbackGroup | None:
    prompt = text_of(record, instruction)
    listed = json_cell(record, completions)
    if not isinstance(listed, list | tuple):
        raise RowError(f"{completions}: found {shown(listed)}; expected a list")
    read = [_completion(one, f"{completions}.{place}", options, left_out) for place, one in enumerate(listed)]
    kept: dict[str, _Completion] = {}
    for one in read:
        if not one.text.strip():
            left_out[EMPTY] += 1
        elif one.text in kept:
            left_out[REPEATED] += 1
        else:
            kept[one.text] = one
    by_id = {f"r{place}": one for place, one in enumerate(kept.values())}
    labels = _labels(by_id, options)
    if not labels:
        return None
    return FeedbackGroup(
        group_id=content_id(prompt, *kept),
        prompt=(Message(role="user", content=prompt),),
        responses=tuple(Response(response_id=key, content=one.text, model=one.model) for key, one in by_id.items()),
        labels=labels,
        segment=optional_text(record, segment) or options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _labels(by_id: dict[str, _Completion], options: UltraFeedbackOptions) -> tuple[Rating, ...]:
    scores: dict[str, dict[str, float]] = {}
    for key, one in by_id.items():
        for criterion, rating in one.ratings.items():
            if not options.criteria or criterion.casefold() in options.criteria:
                scores.setdefault(criterion, {})[key] = rating
    overall = {key: one.overall for key, one in by_id.items() if one.overall is not None}
    if overall and options.criterion in scores:
        raise RowError(f"annotations: has a criterion {options.criterion!r}; name the overall one: --option criterion=")
    scores |= {options.criterion: overall} if overall else {}
    whole = (1.0, 10.0) if options.overall == "score" else (1.0, 5.0)
    return tuple(
        Rating(
            labeler=options.labeler,
            labeler_kind=options.labeler_kind,
            criterion=criterion,
            scores=given,
            scale=whole if given is overall else (1.0, 5.0),
        )
        for criterion, given in scores.items()
    )


def _completion(value: Any, name: str, options: UltraFeedbackOptions, left_out: Counter[str]) -> _Completion:
    if not isinstance(value, dict) or not isinstance(value.get("response"), str):
        raise RowError(f"{name}: found {shown(value)}; expected a response with annotations")
    annotations = value.get("annotations")
    if not isinstance(annotations, dict):
        raise RowError(f"{name}.annotations: found {shown(annotations)}; expected an object")
    ratings: dict[str, float] = {}
    for criterion, annotation in annotations.items():
        if annotation is None:  # in files of columns every row has every criterion
            continue
        rating = annotation.get("Rating") if isinstance(annotation, dict) else None
        if rating is None or (isinstance(rating, str) and rating.strip().casefold() in _NA):
            left_out[NOT_APPLICABLE] += 1
        else:
            ratings[criterion] = number(rating, f"{name}.annotations.{criterion}.Rating", (1, 5))
    model = value.get("model")
    return _Completion(
        value["response"],
        model if isinstance(model, str) else None,
        ratings,
        _overall(value.get("overall_score"), ratings, name, options, left_out),
    )


def _overall(
    score: Any, ratings: dict[str, float], name: str, options: UltraFeedbackOptions, left_out: Counter[str]
) -> float | None:
    if options.overall != "score":
        return mean(ratings.values()) if ratings and options.overall == "mean" else None
    if score is None or (isinstance(score, str) and score.strip().casefold() in _NA):
        left_out[NO_SCORE] += 1
        return None
    found = number(score, f"{name}.overall_score", (1, 10))
    if found == _TEN and options.tens == "leave-out" and not (ratings and mean(ratings.values()) > _DOUBTFUL):
        left_out[FAULTY_TEN] += 1
        return None
    return found
