"""What every importer gives and gets, and the list of importers.

An importer is one function from the rows of a file to outcomes, registered with ``@importer``; a new format is a new
file in this folder. Every row of the file must come out exactly once: in a ``Taken``, a ``Rejected``, a ``Repeated`` or
a ``Skipped``.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.records import FeedbackGroup, LabelerKind, Message, Response, Sampling, text_digest

if TYPE_CHECKING:
    from rewardloop.feedback.importers.table import Table

WITHHELD = "(withheld)"
"""Stands in a quarantined row for a field that the importer does not know: it might name a labeler."""


class LabelerId(str):
    """A labeler's id inside a raw row; replaced by its pseudonym before the row is written anywhere."""

    __slots__ = ()


@dataclass(frozen=True)
class Row:
    """A row as it came. ``raw`` is None where it cannot be parsed, so that labeler ids in it cannot be found."""

    place: str
    raw: dict[str, Any] | None


@dataclass(frozen=True)
class Taken:
    """A feedback group and the rows it was made of (at least one)."""

    group: FeedbackGroup
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be read, and why. The reason must not quote labeler ids."""

    row: Row
    reason: str


@dataclass(frozen=True)
class Repeated:
    """A row that says again what an earlier row of the file said."""

    row: Row


@dataclass(frozen=True)
class Skipped:
    """A row in which, by its own words, nobody judged anything: it is counted under ``reason`` and is no mistake."""

    row: Row
    reason: str


Outcome = Taken | Rejected | Repeated | Skipped


class RowError(ValueError):
    """Why a row cannot be read; importers turn it into ``Rejected``."""


class Options(BaseModel):
    """Base of every importer's options; values arrive as text from the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelOptions(Options):
    """What a file without these fields leaves open about its labels.

    ``default_segment`` is for groups without a segment, or of several.
    """

    criterion: str = "overall"
    labeler_kind: LabelerKind = "human"
    sampling: Sampling = "random"
    source: str | None = None
    default_segment: str | None = None


class _ColumnMark:
    """Marks an option that names a column: ``--column``, not ``--option``."""


_COLUMN = _ColumnMark()
Column = Annotated[str, _COLUMN]


def _scale(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    low, dots, high = value.partition("..")
    try:
        scale = (float(low), float(high))
    except ValueError:
        scale = (0.0, 0.0)
    if not dots or not scale[0] < scale[1]:
        raise ValueError("expected LOWEST..HIGHEST, for example 1..5")
    return scale


Scale = Annotated[tuple[float, float] | None, BeforeValidator(_scale)]

_O = TypeVar("_O", bound=Options)
Recognizes = Callable[["Table", _O], str | None]
Reads = Callable[["Table", _O, ValidationSettings], Iterator[Outcome]]


@dataclass(frozen=True)
class Importer:
    """One format: ``recognizes`` gives the reason why a file looks like it, or None."""

    name: str
    summary: str
    options: type[Options]
    recognizes: Recognizes[Any]
    read: Reads[Any]

    def column_options(self) -> list[str]:
        """Options given as ``--column NAME=COLUMN``."""
        return [name for name, field in self.options.model_fields.items() if _COLUMN in field.metadata]

    def other_options(self) -> list[str]:
        """Options given as ``--option NAME=VALUE``."""
        return [name for name in self.options.model_fields if name not in self.column_options()]


_IMPORTERS: dict[str, Importer] = {}


def importer(
    name: str, summary: str, options: type[_O], *, recognizes: Recognizes[_O]
) -> Callable[[Reads[_O]], Reads[_O]]:
    """Register the decorated function as the importer of format ``name``."""

    def register(read: Reads[_O]) -> Reads[_O]:
        _IMPORTERS[name] = Importer(name, summary, options, recognizes, read)
        return read

    return register


@functools.cache
def importers() -> Mapping[str, Importer]:
    """Every importer in this folder by name."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    return dict(sorted(_IMPORTERS.items()))


def parse_options(chosen: Importer, options: Mapping[str, str], columns: Mapping[str, str]) -> Options:
    """The importer's options from text.

    Raises:
        BadInputError: lists every unknown option or wrong value with what is allowed.
    """
    mistakes = [_unknown("--option", name, chosen, chosen.other_options()) for name in options]
    mistakes += [_unknown("--column", name, chosen, chosen.column_options()) for name in columns]
    mistakes = [mistake for mistake in mistakes if mistake]
    if not mistakes:
        try:
            return chosen.options.model_validate({**options, **columns})
        except ValidationError as error:
            mistakes = [
                f"--option {item['loc'][0]}={item['input']}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors(include_url=False)
            ]
    raise BadInputError("\n".join(mistakes))


def _unknown(flag: str, name: str, chosen: Importer, allowed: Collection[str]) -> str:
    if name in allowed:
        return ""
    known = ", ".join(allowed) or "none"
    return f"{flag} {name}: unknown for format {chosen.name}; allowed: {known}"


@dataclass(frozen=True)
class Choice:
    """The importer of an ingest, with parsed options and why it was taken."""

    importer: Importer
    options: Options
    reason: str


def choose(tables: Sequence["Table"], name: str, options: Mapping[str, str], columns: Mapping[str, str]) -> Choice:
    """The importer called ``name``; with ``auto`` the one that recognizes every file.

    Raises:
        BadInputError: unknown name or options; ``auto`` finds no importer, or several.
    """
    known = importers()
    if name != "auto":
        if name not in known:
            raise BadInputError(f"--format {name}: unknown; allowed: auto, {', '.join(known)}")
        return Choice(known[name], parse_options(known[name], options, columns), "named with --format")
    found: list[Choice] = []
    for candidate in known.values():
        if set(options) <= set(candidate.other_options()) and set(columns) <= set(candidate.column_options()):
            parsed = parse_options(candidate, options, columns)
            reasons = [candidate.recognizes(table, parsed) for table in tables]
            if all(reasons):
                found.append(Choice(candidate, parsed, str(reasons[0])))
    if len(found) == 1:
        return found[0]
    if found:
        looks = "; ".join(f"{choice.importer.name} ({choice.reason})" for choice in found)
        raise BadInputError(f"{tables[0].name}: may be any of: {looks}. Name the format with --format")
    raise BadInputError(
        f"{tables[0].name}: format not recognized; found {tables[0].looks()}. Name the format with --format "
        f"({', '.join(known)}) and its columns with --column"
    )


def content_id(*texts: str) -> str:
    """An id for what has none in its file: the same content gets the same id in every file."""
    return f"c_{text_digest(chr(31).join(texts))[:16]}"


def length_problem(prompt: Sequence[Message], responses: Sequence[Response], limits: ValidationSettings) -> str | None:
    """Why a text is too short or too long for the configured limits, or None."""
    characters = sum(len(message.content) for message in prompt)
    if characters > limits.max_prompt_characters:
        limit = limits.max_prompt_characters
        return f"the prompt has {characters:,} characters; at most {limit:,} (validation.max_prompt_characters)"
    for response in responses:
        characters = len(response.content)
        if characters > limits.max_response_characters:
            limit = limits.max_response_characters
            return f"a response has {characters:,} characters; at most {limit:,} (validation.max_response_characters)"
        characters = len(response.content.strip())
        if characters < limits.min_response_characters:
            limit = limits.min_response_characters
            return f"a response has {characters} characters; at least {limit} (validation.min_response_characters)"
    return None
