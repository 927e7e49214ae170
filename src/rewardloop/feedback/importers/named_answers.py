"""Verdicts that name responses, from tools that keep each response in a field of its own.

In: the fields of a task and an answer (the name of a response, or names in order). Out: responses, named as their
fields are, and labels. Also the few things that the importers of all labeling tools share.
"""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, field_validator

from rewardloop.feedback.importers.base import WITHHELD, Column, LabelOptions, RowError, content_id
from rewardloop.feedback.importers.quoting import cut
from rewardloop.feedback.importers.table import shown
from rewardloop.records import Choice, Label, Message, Ranking, Response

NO_ANNOTATION = "not annotated yet"

_MESSAGES = TypeAdapter(tuple[Message, ...])
_DEEPEST = 4
"""Levels of lists and objects that a value may have in quarantine: messages have two."""


def names_listed(value: Any) -> Any:
    """``a,b`` as ("a", "b"), for options; names must differ."""
    if not isinstance(value, str):
        return value
    names = tuple(name.strip() for name in value.split(","))
    if "" in names or len(set(names)) < len(names):
        raise ValueError("expected different names with commas between")
    return names


Names = Annotated[tuple[str, ...], BeforeValidator(names_listed)]


def _answers(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.rpartition("=")[::2] for part in names_listed(value)]
    if not all(answer and field for answer, field in pairs):
        raise ValueError("expected ANSWER=FIELD,ANSWER=FIELD")
    return dict(pairs)


AnswerMap = Annotated[dict[str, str], BeforeValidator(_answers)]


class ResponseOptions(LabelOptions):
    """``responses``: names joined by ``+``, or a pattern in which ``#`` stands for a number.

    ``answers``: what answers call the responses, where not by their names; ``tie``: what answers call a tie.
    """

    prompt: Column = "prompt"
    responses: Column = "response_#"
    segment: Column = "segment"
    answers: AnswerMap = Field(default_factory=dict)
    tie: Names = ()

    @field_validator("responses")
    @classmethod
    def _named(cls, responses: str) -> str:
        if "" in responses.split("+"):
            raise ValueError("expected names with + between, or a pattern like response_#")
        return responses


def about(labeler: str | None, options: LabelOptions, criterion: str) -> dict[str, Any]:
    """The fields that labels of all kinds share."""
    return {"labeler": labeler, "labeler_kind": options.labeler_kind, "criterion": criterion}


def task_content_id(prompt: tuple[Message, ...], responses: tuple[Response, ...]) -> str:
    """The id of a group: equal for all that were asked the same about the same responses of the same names."""
    turns = [f"{message.role}:{message.content}" for message in prompt]
    return content_id(*turns, *(f"{one.response_id}:{one.content}" for one in responses))


def response_fields(fields: Mapping[str, Any], options: ResponseOptions) -> list[str]:
    """Names of the fields that hold responses, in the order of their numbers or of the option."""
    if "#" not in options.responses:
        return options.responses.split("+")
    pattern = re.compile(re.escape(options.responses).replace(r"\#", r"([0-9]{1,9})"))
    matches = [match for name in fields if (match := pattern.fullmatch(name)) and fields[name] is not None]
    return [match.string for match in sorted(matches, key=lambda match: int(match.group(1)))]


def responses_in(fields: Mapping[str, Any], options: ResponseOptions) -> tuple[Response, ...]:
    """The responses among the fields, named as their fields are.

    Raises:
        RowError: a named field is not there or no text, no field fits the pattern, or two are the same text.
    """
    names = response_fields(fields, options)
    missing = [name for name in names if name not in fields]
    if missing or not names:
        found = ", ".join(sorted(name[:40] for name in fields)[:12]) or "nothing"
        what = f"has no {missing[0]!r}" if missing else f"no field fits {options.responses!r}"
        raise RowError(f"{what}; found {found}. Name the responses: --column responses=FIELD+FIELD")
    for name in names:
        if not isinstance(fields[name], str):
            raise RowError(f"{name}: found {kind_of(fields[name])}; expected a text")
    if len({fields[name] for name in names}) < len(names):
        raise RowError("two responses are the same text")
    return tuple(Response(response_id=name, content=fields[name]) for name in names)


def prompt_of(fields: Mapping[str, Any], options: ResponseOptions) -> tuple[Message, ...]:
    """The prompt, a text or a list of messages; empty where it is, or where no other field may be it.

    Raises:
        RowError: which field is the prompt is open, or it is no text.
    """
    value = fields.get(options.prompt)
    if value in (None, ""):
        others = {*response_fields(fields, options), options.segment}
        check_no_prompt(fields, options.prompt, others, named="prompt" in options.model_fields_set)
        return ()
    if isinstance(value, list):
        try:
            return _MESSAGES.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, (options.prompt, *first["loc"])))
            raise RowError(f"{place}: {first['msg']} (messages have a role and a content)") from None
    if not isinstance(value, str):
        raise RowError(f"{options.prompt}: found {kind_of(value)}; expected a text. Name it: --column prompt=FIELD")
    return (Message(role="user", content=value),)


def check_no_prompt(texts: Mapping[str, Any], name: str, others: Collection[str], *, named: bool) -> None:
    """That texts without the field ``name`` have no prompt: said by an empty name, or there is nothing it could be.

    Args:
        texts: what was shown to the labelers.
        name: of the prompt.
        others: names of what is no prompt.
        named: somebody said that this is its name.

    Raises:
        RowError: the named prompt is not there, or other texts are, of which one may be it.
    """
    if not name or name in texts:
        return
    left = sorted(key[:40] for key, value in texts.items() if key not in others and _may_be_prompt(value))
    if left or named:
        raise RowError(
            f"has no {name!r}; found {', '.join(left[:12]) or 'no other text'}. Name the prompt: --column "
            "prompt=FIELD, or say that there is none: --column prompt="
        )


def _may_be_prompt(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(one, dict) for one in value))


def ranking_of(value: list[Any], ids: list[str], name: str, options: ResponseOptions) -> dict[str, int]:
    """Ranks from names of responses, the best first."""
    keys = [response_named(answer, ids, name, options) for answer in value]
    if len(set(keys)) < len(keys) or len(keys) < 2:
        raise RowError(f"{name}: found {shown(value)}; expected at least two different responses, the best first")
    return {key: rank for rank, key in enumerate(keys, start=1)}


def choice_labels(
    value: str, ids: list[str], name: str, fields: dict[str, Any], options: ResponseOptions
) -> list[Label]:
    """The named response is preferred to each other one; of the others nothing is said."""
    if len(ids) < 2:
        raise RowError(f"{name}: found {shown(value)} and one response; expected at least two to choose from")
    if value in options.tie:
        return [Ranking(ranks=dict.fromkeys(ids, 1), **fields)]
    chosen = response_named(value, ids, name, options)
    return [Choice(chosen=chosen, rejected=other, **fields) for other in ids if other != chosen]


def response_named(answer: Any, ids: list[str], name: str, options: ResponseOptions) -> str:
    """The response that an answer means: by ``--option answers=``, or the one of that very name."""
    key = options.answers.get(answer, answer) if isinstance(answer, str) else None
    if key is None or key not in ids:
        ties = f", and ties {', '.join(options.tie)}" if options.tie else ""
        raise RowError(
            f"{name}: found {shown(answer)}; the responses are {cut(', '.join(ids), 200)}{ties}. Say what it means: "
            "--option answers=ANSWER=FIELD,ANSWER=FIELD, or --option tie=ANSWER"
        )
    return key


def kept(value: Any, deepest: int = _DEEPEST) -> Any:
    """A value for quarantine; what is nested deeper than any known shape is withheld."""
    if isinstance(value, dict | list):
        if not deepest:
            return WITHHELD
        if isinstance(value, dict):
            return {name: kept(one, deepest - 1) for name, one in value.items()}
        return [kept(one, deepest - 1) for one in value]
    return value


def kind_of(value: Any) -> str:
    """What a value is, for reasons that must not quote it."""
    return "nothing" if value is None else f"a JSON {type(value).__name__}"
