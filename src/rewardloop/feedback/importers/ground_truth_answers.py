"""What a label of SageMaker Ground Truth says: its options, whose it is, and where in it the answer stands.

In: the value of a label attribute and its metadata. Out: the answer, and labels made of it. A custom task's answer is a
form that the task's author designed, so the way to the answer inside of it is an option.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from rewardloop.feedback.importers.base import RowError
from rewardloop.feedback.importers.named_answers import (
    ResponseOptions,
    choice_labels,
    kind_of,
    ranking_of,
    response_fields,
    response_named,
)
from rewardloop.feedback.importers.quoting import cut
from rewardloop.feedback.importers.table import shown
from rewardloop.records import Label, LabelerKind, Ranking

TWIN = "-metadata"
"""Ends the name of the metadata of a label attribute."""
_ELSEWHERE = ("s3://", "https://", "http://")
_BY_PEOPLE = {"yes": True, "true": True, "no": False, "false": False}
_ALL = "annotationsFromAllWorkers"


class GroundTruthOptions(ResponseOptions):
    """``path``: the way to the answer in what a worker submitted, with dots: ``response.label``.

    ``answer``: whether it names the best response or ranks them. AWS documents no output for rankings, so they are read
    only where this says so.
    """

    path: str | None = None
    answer: Literal["choice", "ranking"] = "choice"


class Worker(NamedTuple):
    """Who said what; ``id`` is None for a consolidated label."""

    id: str | None
    content: Any


def consolidated(value: Any, metadata: Mapping[str, Any], options: GroundTruthOptions) -> Any:
    """The answer of a built-in task, the name of its class; without one (custom consolidation) that in the value."""
    if "class-name" in metadata:
        return metadata["class-name"]
    return answer_in(value, options) if isinstance(value, dict) else value


def kind_of_labeler(metadata: Mapping[str, Any], people: LabelerKind) -> LabelerKind:
    """``model`` where Ground Truth labeled by itself (``human-annotated: no``), else ``people``."""
    found = metadata.get("human-annotated", "yes")
    by_people = _BY_PEOPLE.get(str(found).lower()[:10])
    if by_people is None:
        raise RowError(f"human-annotated: found {shown(found)}; expected 'yes' or 'no'")
    return people if by_people else "model"


def annotations_of(value: Any, name: str) -> list[Any] | None:
    """Each worker's own annotation; None for a consolidated label."""
    if not isinstance(value, dict) or _ALL not in value:
        return None
    if not isinstance(value[_ALL], list):
        raise RowError(f"{name}.{_ALL}: found {kind_of(value[_ALL])}; expected a list")
    return list(value[_ALL])


def worker_of(annotation: Any) -> Worker:
    """Who annotated, and what was submitted (or the name of the file in S3 that holds it).

    Raises:
        RowError: it is not what Ground Truth documents.
    """
    if not isinstance(annotation, dict):
        raise RowError(f"found {kind_of(annotation)}; expected an object")
    who, data = annotation.get("workerId"), annotation.get("annotationData")
    if who is not None and (not isinstance(who, str) or not who):
        raise RowError("workerId: expected a text")
    if not isinstance(data, dict) or not {"content", "s3uri"} & set(data):
        raise RowError("annotationData: expected an object with 'content'")
    return Worker(who, data.get("content", data.get("s3uri")))


def answer_in(content: Any, options: GroundTruthOptions) -> Any:
    """The answer in what a worker submitted: an object, or its JSON as a text.

    Raises:
        RowError: the content lies elsewhere, is no JSON, or the option ``path`` is missing or leads nowhere.
    """
    submitted = parsed(content, "content")
    if options.path is None:
        ways = ", ".join(way[:60] for way, _ in zip(_ways(submitted), range(6), strict=False)) or "nothing"
        raise RowError(f"content: say where in it the answer stands: --option path=WAY; found {ways}")
    value = submitted
    for part in options.path.split("."):
        value = _unpacked(value)
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part[:9]) < len(value):
            value = value[int(part[:9])]
        else:
            ways = ", ".join(way[:60] for way, _ in zip(_ways(submitted), range(6), strict=False)) or "nothing"
            raise RowError(f"content: has no {options.path!r}; found {ways}")
    return _checked_box(value)


def _unpacked(value: Any) -> Any:
    """Forms with hidden fields submit JSON inside of JSON."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return _json(value)
    except ValueError:
        return value


def _json(text: str) -> Any:
    """What a text of JSON says; half a surrogate pair is no text (ValueError), nor is what is nested without end."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return value


def _checked_box(value: Any) -> Any:
    """Radio buttons of a form come as an object of true and false: the name of the one that is true."""
    if not isinstance(value, dict) or not value or not all(isinstance(one, bool) for one in value.values()):
        return value
    checked = [name for name, one in value.items() if one]
    if len(checked) != 1:
        raise RowError(f"content: {len(checked)} of {len(value)} boxes are checked; expected one")
    return checked[0]


def parsed(content: Any, place: str) -> Any:
    """A text of JSON as what it says; an object as it is.

    Raises:
        RowError: it names a file elsewhere, is no JSON, or holds what is no text.
    """
    if isinstance(content, dict):
        return content
    if not isinstance(content, str):
        raise RowError(f"{place}: found {kind_of(content)}; expected JSON as a text")
    if content.startswith(_ELSEWHERE):
        raise RowError(f"{place}: is in {cut(content, 80)}; fetch that file and put its JSON here (nothing is fetched)")
    try:
        value = _json(content)
    except ValueError:
        raise RowError(f"{place}: found a text that is no JSON; expected JSON as a text") from None
    if not isinstance(value, dict):
        raise RowError(f"{place}: found {kind_of(value)}; expected an object")
    return value


def _ways(value: Any, way: str = "", depth: int = 4) -> Iterator[str]:
    """Ways to the values in an object, as ``path`` writes them."""
    if isinstance(value, dict) and value and depth and not all(isinstance(one, bool) for one in value.values()):
        for name, one in value.items():
            yield from _ways(one, f"{way}.{name}" if way else name, depth - 1)
    elif way:
        yield way


def fields_of(values: Mapping[str, Any], name: str, options: GroundTruthOptions) -> dict[str, Any]:
    """What was labeled: the columns of the line, with those of the object that ``source`` or ``source-ref`` holds.

    Raises:
        RowError: the responses are not there, but in a file elsewhere.
    """
    fields = {key: value for key, value in values.items() if key not in (name, f"{name}{TWIN}")}
    for key in ("source", "source-ref"):
        inner = values.get(key)
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            inner = parsed(inner, key)
        if isinstance(inner, dict) or key == "source-ref":
            fields = {name: value for name, value in fields.items() if name != key}
        if isinstance(inner, dict):
            fields |= inner
    found = response_fields(fields, options)
    ref = values.get("source-ref", values.get("source"))
    if isinstance(ref, str) and ref.startswith(_ELSEWHERE) and (not found or not set(found) <= set(fields)):
        raise RowError(
            f"its texts are in {cut(ref, 80)}; fetch them and put them into the line as columns, or as an object in "
            "'source' (nothing is fetched)"
        )
    return fields


def labels_of(
    answer: Any, ids: list[str], name: str, fields: dict[str, Any], options: GroundTruthOptions
) -> list[Label]:
    """A choice between responses, or with ``--option answer=ranking`` a list of them or an object of rank numbers."""
    if options.answer == "choice":
        if not isinstance(answer, str):
            raise RowError(f"{name}: found {shown(answer)}; expected the name of a response ({', '.join(ids)})")
        return choice_labels(answer, ids, name, fields, options)
    if isinstance(answer, dict):
        return [Ranking(ranks=_ranks(answer, ids, name, options), **fields)]
    if not isinstance(answer, list):
        raise RowError(f"{name}: found {shown(answer)}; expected a list of responses, or an object of ranks")
    return [Ranking(ranks=ranking_of(answer, ids, name, options), **fields)]


def _ranks(answer: dict[str, Any], ids: list[str], name: str, options: GroundTruthOptions) -> dict[str, int]:
    """Rank numbers by response, 1 is best; forms submit numbers as texts, too."""
    ranks: dict[str, int] = {}
    for one, rank in answer.items():
        key = response_named(one, ids, name, options)
        if isinstance(rank, str) and rank.isdecimal() and len(rank) < 10:
            rank = int(rank)
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1 or key in ranks:
            raise RowError(f"{name}: rank of {shown(one)}: found {shown(rank)}; expected one number from 1")
        ranks[key] = rank
    if len(ranks) < 2:
        raise RowError(f"{name}: ranks {len(ranks)} responses; expected at least two")
    return ranks
