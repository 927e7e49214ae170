"""Answers to the questions of an Argilla record, whatever shape it was exported in. Shared by Argilla's importers.

In: the texts of a record and who answered which question how. Out: one outcome per labeler: a feedback group with what
that labeler said of the responses. Names of fields and questions are the project's own: what they do not settle by
themselves is an option.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.argilla_labels import Answer, ArgillaOptions, ArgillaRecord, group_of, rated_by
from rewardloop.feedback.importers.base import (
    WITHHELD,
    LabelerId,
    Outcome,
    Rejected,
    Repeated,
    Row,
    RowError,
    Skipped,
    Taken,
)
from rewardloop.feedback.importers.named_answers import (
    NO_ANNOTATION,
    kept,
    response_fields,
)
from rewardloop.feedback.importers.table import shown

SUBMITTED = "submitted"
NOT_SUBMITTED = {"draft": "left as drafts", "pending": "not submitted yet", "discarded": "discarded by their labeler"}
"""Argilla's other statuses of a response -> what is counted."""


def recognized(questions: Sequence[str], shape: str) -> str:
    """Why a file is taken for Argilla's."""
    return f"its records have answers to {_some(questions)} as {shape} writes them"


def outcomes(
    name: str, questions: Sequence[str], records: Iterable[ArgillaRecord | Rejected], options: ArgillaOptions
) -> Iterator[Outcome]:
    """One outcome per record and labeler; answers to questions that no option names are not looked at.

    Args:
        name: of the file.
        questions: those that its records have answers to.
        records: all its records.
        options: name the question that is learned from, where there are several.

    Raises:
        BadInputError: there are several questions and none is named, or nobody answered the named one.
    """
    question = _question(name, questions, options)
    others: dict[str, None] = {}
    answered = False
    for record in records:
        if isinstance(record, Rejected):
            yield record
            continue
        asked = [
            answer for answer in record.answers if answer.question == question or rated_by(record, answer, options)
        ]
        others |= dict.fromkeys(answer.question for answer in record.answers)
        answered = answered or bool(asked)
        if not asked:
            yield Skipped(_row(record, [], options), NO_ANNOTATION)
        for sheet in _by_labeler(asked):
            yield from _of_labeler(record, sheet, question, options)
    if others and not answered:
        raise BadInputError(
            f"{name}: nobody answered the question {question!r}; found answers to {_some(list(others))}. Name the "
            "question to learn from: --column question=NAME"
        )


def _question(name: str, questions: Sequence[str], options: ArgillaOptions) -> str:
    """The question that is learned from: the named one, or the only one."""
    if options.question in questions or "question" in options.model_fields_set:
        return options.question
    others = [one for one in questions if not one.startswith(options.criteria)]
    if len(others) > 1:
        raise BadInputError(
            f"{name}: has answers to the questions {_some(others)}; name the one to learn from: --column question=NAME"
        )
    return others[0] if others else options.question


def _some(questions: Sequence[str]) -> str:
    more = f" and {len(questions) - 8} more" if len(questions) > 8 else ""
    return ", ".join(repr(one[:40]) for one in questions[:8]) + more


def _by_labeler(answers: list[Answer]) -> Iterator[list[Answer]]:
    sheets: dict[Any, list[Answer]] = {}
    for place, answer in enumerate(answers):
        # Without an identity every answer is somebody else's.
        who = str(answer.labeler) if answer.labeler is not None else place
        sheets.setdefault(who, []).append(answer)
    yield from sheets.values()


def _of_labeler(
    record: ArgillaRecord, sheet: list[Answer], question: str, options: ArgillaOptions
) -> Iterator[Outcome]:
    first: dict[str, Answer] = {}
    for answer in sheet:
        before = first.setdefault(answer.question, answer)
        if before is not answer and before == answer:
            yield Repeated(_row(record, [answer], options))
        elif before is not answer:
            yield Rejected(_row(record, [answer], options), f"{answer.question}: its labeler said otherwise before")
    answers = list(first.values())
    row = _row(record, answers, options)
    try:
        submitted = [answer for answer in answers if _is_submitted(answer)]
        if submitted:
            yield Taken(group_of(record, submitted, question, options), (row,))
        else:
            yield Skipped(row, NOT_SUBMITTED[answers[0].status])
    except RowError as error:
        yield Rejected(row, str(error))


def _is_submitted(answer: Answer) -> bool:
    if answer.status in (None, SUBMITTED):
        return True
    if not isinstance(answer.status, str) or answer.status not in NOT_SUBMITTED:
        known = ", ".join([SUBMITTED, *NOT_SUBMITTED])
        raise RowError(f"{answer.question}: status: found {shown(answer.status)}; expected one of {known}")
    return False


def _row(record: ArgillaRecord, answers: list[Answer], options: ArgillaOptions) -> Row:
    """The row for quarantine: the prompt, the responses and one labeler's answers; all else may name a person."""
    known = {options.prompt, *response_fields(record.fields, options)}
    raw: dict[str, Any] = {
        "fields": {name: kept(value) if name in known else WITHHELD for name, value in record.fields.items()},
        "metadata": dict.fromkeys(record.metadata, WITHHELD),
    }
    if answers:
        who = answers[0].labeler
        raw["user_id"] = None if who is None else LabelerId(who)
        raw["answers"] = {
            answer.question: {"value": kept(answer.value), "status": kept(answer.status)} for answer in answers
        }
    return Row(record.place, raw)
