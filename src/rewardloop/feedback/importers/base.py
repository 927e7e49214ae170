"""What every importer gives and gets, and the list of importers: all that a new one needs is to be had from here.

In: the rows of a file. Out: outcomes. An importer is one function from the one to the other, registered with
``@importer``; a new format is a new file in this folder, or a file of the user's own that ``load_importer`` runs. Every
row of the file must come out exactly once: in a ``Taken``, a ``Rejected``, a ``Repeated`` or a ``Skipped``.
"""

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import pkgutil
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.options import COLUMN, Column, LabelOptions, Options, Scale
from rewardloop.feedback.importers.outcomes import (
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
from rewardloop.records import Message, Response, text_digest

if TYPE_CHECKING:
    from rewardloop.feedback.importers.table import Table

__all__ = [
    "WITHHELD", "Choice", "Column", "Importer", "LabelOptions", "LabelerId", "Options", "Outcome", "Reads",
    "Recognizes", "Rejected", "Repeated", "Row", "RowError", "Scale", "Skipped", "Taken", "choose", "content_id",
    "importer", "importers", "length_problem", "load_importer", "parse_options", "reads_whole",
]  # fmt: skip

_O = TypeVar("_O", bound=Options)
Recognizes = Callable[["Table", _O], str | None]
Reads = Callable[["Table", _O, ValidationSettings], Iterator[Outcome]]


@dataclass(frozen=True)
class Importer:
    """One format: ``recognizes`` gives the reason why a file looks like it, or None.

    ``whole``: it reads ``Table.text`` itself, since the file is no table and no JSON. ``votes``: what it makes a group
    of is one person's judgement, so that equal ones of people without an identity are several people's.
    """

    name: str
    summary: str
    options: type[Options]
    recognizes: Recognizes[Any]
    read: Reads[Any]
    whole: bool = False
    votes: bool = False

    def column_options(self) -> list[str]:
        """Options given as ``--column NAME=COLUMN``."""
        return [name for name, field in self.options.model_fields.items() if COLUMN in field.metadata]

    def other_options(self) -> list[str]:
        """Options given as ``--option NAME=VALUE``."""
        return [name for name in self.options.model_fields if name not in self.column_options()]


_IMPORTERS: dict[str, Importer] = {}
_OWN: dict[str, tuple[Path, str]] = {}
"""Importers that ``load_importer`` registered -> their file and its SHA-256."""


def importer(
    name: str,
    summary: str,
    options: type[_O],
    *,
    recognizes: Recognizes[_O],
    whole: bool = False,
    votes: bool = False,
) -> Callable[[Reads[_O]], Reads[_O]]:
    """Register the decorated function as the importer of format ``name``; ``whole``, ``votes``: as of ``Importer``."""

    def register(read: Reads[_O]) -> Reads[_O]:
        _IMPORTERS[name] = Importer(name, summary, options, recognizes, read, whole, votes)
        return read

    return register


@functools.cache
def importers() -> Mapping[str, Importer]:
    """Every importer in this folder by name."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    return dict(sorted(_IMPORTERS.items()))


def load_importer(path: Path) -> None:
    """Run a Python file of the user's own that registers importers; ``--format auto`` then takes one of those.

    The file is code and may do anything: it is run only where the user names it. Batches name the importer with the
    first digits of the file's SHA-256 (``thumbs@1a2b3c4d``), so that another version of it counts as another importer.

    Raises:
        BadInputError: it cannot be read or fails, registers nothing, or takes the name of another importer.
    """
    known = dict(importers())
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInputError(f"--importer {path}: cannot be read: {error.strerror or error}") from error
    spec = importlib.util.spec_from_file_location(f"rewardloop_importer_{digest[:16]}", path)
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise BadInputError(f"--importer {path}: is not a Python file; expected FILE.py")
    for name in [name for name, (file, _) in _OWN.items() if file == path.resolve()]:  # loaded again
        for names in (known, _IMPORTERS, _OWN):
            names.pop(name)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        _restore(known)
        line = error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
        raise BadInputError(f"--importer {path}: fails at line {line}: {type(error).__name__}: {error}") from error
    added = {name: found for name, found in _IMPORTERS.items() if known.get(name) is not found}
    taken = sorted(set(added) & set(known))
    if taken or not added:
        _restore(known)
        found = f"registers {taken[0]!r}, which is there already" if taken else "registers no importer"
        raise BadInputError(f"--importer {path}: {found}; expected a function with @importer and a name of its own")
    for name, new in added.items():
        _IMPORTERS[name] = dataclasses.replace(new, name=f"{name}@{digest[:8]}")
        _OWN[name] = path.resolve(), digest
    importers.cache_clear()


def _restore(known: Mapping[str, Importer]) -> None:
    _IMPORTERS.clear()
    _IMPORTERS.update(known)
    importers.cache_clear()


def reads_whole(name: str) -> bool:
    """Whether ``choose`` would take, for this name, an importer that reads whole texts instead of rows."""
    known = importers()
    return known[name].whole if name in known else bool(_OWN) and all(known[own].whole for own in _OWN)


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
            found = error.errors(include_url=False)
            # Options that do not go together have no place of their own.
            named = [f"--option {item['loc'][0]}={item['input']}" if item["loc"] else "--option" for item in found]
            words = [item["msg"].removeprefix("Value error, ") for item in found]
            mistakes = [f"{name}: {word}" for name, word in zip(named, words, strict=True)]
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
    if _OWN:
        return _own(known, options, columns)
    fitting = [
        (one, parse_options(one, options, columns))
        for one in known.values()
        if set(options) <= set(one.other_options()) and set(columns) <= set(one.column_options())
    ]
    # Where the first rows say nothing (records that nobody has answered yet), those behind them may.
    found = _recognized(fitting, [table.beginning() for table in tables]) or _recognized(fitting, tables)
    if len(found) == 1:
        return found[0]
    if found:
        looks = "; ".join(f"{choice.importer.name} ({choice.reason})" for choice in found)
        raise BadInputError(f"{tables[0].name}: may be any of: {looks}. Name the format with --format")
    table, but = _unrecognized(fitting, tables)
    raise BadInputError(
        f"{table.name}: format not recognized{but}; found {table.looks(columns.values())}. Name the format with "
        f"--format ({', '.join(known)}) and its columns with --map NAME=COLUMN,..."
    )


def _recognized(fitting: Sequence[tuple[Importer, Options]], tables: Sequence["Table"]) -> list[Choice]:
    """Importers that recognize every file, and why."""
    found = []
    for candidate, options in fitting:
        reasons = [candidate.recognizes(table, options) for table in tables]
        if all(reasons):
            found.append(Choice(candidate, options, str(reasons[0])))
    return found


def _unrecognized(fitting: Sequence[tuple[Importer, Options]], tables: Sequence["Table"]) -> tuple["Table", str]:
    """The file to blame where no importer recognizes all: the first that the importer of most others does not."""
    table, but, most = tables[0], "", 0
    for candidate, options in fitting:
        reasons = [candidate.recognizes(table, options) for table in tables]
        known = [(one.name, reason) for one, reason in zip(tables, reasons, strict=True) if reason]
        if len(known) > most:
            table, most = next(one for one, why in zip(tables, reasons, strict=True) if not why), len(known)
            but = f", and {known[0][0]} looks like {candidate.name} ({known[0][1]}): one ingest reads one format"
    return table, but


def _own(known: Mapping[str, Importer], options: Mapping[str, str], columns: Mapping[str, str]) -> Choice:
    if len(_OWN) > 1:
        raise BadInputError(f"--importer gives several formats: {', '.join(_OWN)}. Name one with --format")
    ((name, (file, digest)),) = _OWN.items()
    return Choice(
        known[name], parse_options(known[name], options, columns), f"of --importer {file.name}, SHA-256 {digest[:12]}"
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
