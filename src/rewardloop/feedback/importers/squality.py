"""SQuALITY's human evaluation: for each question about a story, reviewers rank and rate the answers of several systems.

In: JSON lines ``{"passage-id", "questions": {number: {system: {"response", "reviews": [...]}}}}``; a review has a
``worker_id`` and, for each criterion, ``<criterion>-rank`` (1 is best) and ``<criterion>-rating`` (0 to 100). Out: one
feedback group per question, with one label per reviewer and criterion. Each review is a row. The questions' texts stand
in another file of the data (``v1-3/txt``), which ``--option questions=FILE`` names.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import (
    LabelerId,
    LabelOptions,
    Outcome,
    Rejected,
    Row,
    RowError,
    Taken,
    importer,
)
from rewardloop.feedback.importers.beside import Beside
from rewardloop.feedback.importers.compared import Values
from rewardloop.feedback.importers.named_answers import kind_of
from rewardloop.feedback.importers.ranks import rank_of
from rewardloop.feedback.importers.table import Record, Table, number
from rewardloop.records import FeedbackGroup, Label, Message, Ranking, Rating, Response

_RATINGS = (0.0, 100.0)


class SqualityOptions(LabelOptions):
    """``take``: ranks, ratings or both; ``criteria``: of the reviews; ``questions``: the file with their texts."""

    take: Literal["ranks", "ratings", "both"] = "ranks"
    criteria: Values = ("overall", "correctness", "selection")
    questions: Beside | None = None


def _recognizes(table: Table, options: SqualityOptions) -> str | None:
    if all({"passage-id", "questions"} <= set(record.values) for record in table.first):
        return "its rows have 'passage-id' and 'questions'"
    return None


@importer("squality", "SQuALITY's reviews of answers about stories", SqualityOptions, recognizes=_recognizes)
def squality(table: Table, options: SqualityOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each question of a line is a group; a mistake in one review refuses the reviews of its question."""
    texts = _texts(options.questions) if options.questions else {}
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        questions, passage = record.values.get("questions"), record.values.get("passage-id")
        if not isinstance(questions, dict) or not isinstance(passage, str) or not questions:
            # Reviewers are named inside of whatever it is.
            reason = f"questions: found {kind_of(questions)}; expected an object with questions, beside a passage-id"
            yield Rejected(Row(record.place, None), reason)
            continue
        for key, systems in questions.items():
            yield from _question(record, passage, key, systems, texts, options)


def _question(
    record: Record,
    passage: str,
    key: str,
    systems: Any,
    texts: Mapping[tuple[str, str], str],
    options: SqualityOptions,
) -> Iterator[Outcome]:
    rows = _rows(record, passage, key, systems)
    try:
        if options.questions and (passage, key) not in texts:
            raise RowError(f"{options.questions.name} has no question {key!r} of passage {passage!r}")
        yield Taken(_group(passage, key, systems, texts.get((passage, key)), options), rows)
    except RowError as error:
        for row in rows:
            yield Rejected(row, f"question {key}: {error}")


def _group(passage: str, key: str, systems: Any, text: str | None, options: SqualityOptions) -> FeedbackGroup:
    if not isinstance(systems, dict) or not all(isinstance(one, dict) for one in systems.values()):
        raise RowError(f"found {kind_of(systems)}; expected the responses of systems by name")
    for name, one in systems.items():
        if not isinstance(one.get("response"), str):
            raise RowError(f"{name}.response: found {kind_of(one.get('response'))}; expected a text")
    labels = tuple(_labels(systems, options))
    if not labels:
        raise RowError("has no reviews; expected some")
    return FeedbackGroup(
        group_id=f"{passage}/{key}",
        document_id=passage,
        prompt=(Message(role="user", content=text),) if text else (),
        responses=tuple(
            Response(response_id=name, content=one["response"], model=name) for name, one in systems.items()
        ),
        labels=labels,
        segment=options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _labels(systems: dict[str, Any], options: SqualityOptions) -> Iterator[Label]:
    given: dict[tuple[str, str], dict[str, tuple[int, float]]] = {}
    for name, one in systems.items():
        for place, review in enumerate(_reviews(one)):
            shown_as = f"{name}.reviews.{place}"
            who = review.get("worker_id")
            if not isinstance(who, str) or not who:
                raise RowError(f"{shown_as}.worker_id: expected a text")
            for criterion in options.criteria:
                judged = given.setdefault((criterion, who), {})
                if name in judged:
                    raise RowError(f"{shown_as}: its reviewer has reviewed this response before")
                judged[name] = _judged(review, criterion, shown_as)
    about: dict[str, Any] = {"labeler_kind": options.labeler_kind}
    for (criterion, who), judged in given.items():
        about |= {"criterion": criterion, "labeler": who}
        if options.take != "ratings":
            yield Ranking(ranks={name: rank for name, (rank, _) in judged.items()}, **about)
        if options.take != "ranks":
            yield Rating(scores={name: score for name, (_, score) in judged.items()}, scale=_RATINGS, **about)


def _reviews(system: dict[str, Any]) -> list[dict[str, Any]]:
    reviews = system.get("reviews")
    if not isinstance(reviews, list) or not all(isinstance(review, dict) for review in reviews):
        raise RowError("reviews: expected a list of objects")
    return reviews


def _judged(review: dict[str, Any], criterion: str, name: str) -> tuple[int, float]:
    rank = rank_of(review.get(f"{criterion}-rank"), f"{name}.{criterion}-rank")
    return rank, number(review.get(f"{criterion}-rating"), f"{name}.{criterion}-rating", _RATINGS)


def _rows(record: Record, passage: str, key: str, systems: Any) -> tuple[Row, ...]:
    """One row per review, without what the reviewer wrote beside it."""
    found: list[Row] = []
    for name, one in systems.items() if isinstance(systems, dict) else ():
        reviews = one.get("reviews") if isinstance(one, dict) else None
        for review in reviews if isinstance(reviews, list) else ():
            if isinstance(review, dict):
                plain = {field: value for field, value in review.items() if field.endswith(("-rank", "-rating"))}
                who = review.get("worker_id")
                plain |= {"worker_id": LabelerId(who)} if isinstance(who, str) else {}
                where = {"passage-id": passage, "question": key, "system": name, "response": one.get("response")}
                found.append(Row(record.place, where | plain))
    return tuple(found) or (Row(record.place, None),)


def _texts(file: Beside) -> dict[tuple[str, str], str]:
    """(passage, number) -> question."""
    texts: dict[tuple[str, str], str] = {}
    for place, line in enumerate(file.text.split("\n"), start=1):
        try:
            if line.strip():
                story = json.loads(line)
                passage = story["metadata"]["passage_id"]
                texts |= {(passage, str(key)): str(q["question_text"]) for key, q in enumerate(story["questions"])}
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            mend = "expected stories with metadata.passage_id and questions (v1-3/txt of the data)"
            raise BadInputError(f"{file.name}:{place}: {type(error).__name__} {error}; {mend}") from error
    return texts
