"""Rows of JSON: one object per line, or a list of them.

In: a ``Source``. Out: ``Record`` s with their place, and rows that cannot be parsed as ``Rejected``. Of a list no more
is held than the entry that is being read.
"""

import json
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TextIO

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.outcomes import Rejected, Row
from rewardloop.feedback.reading import Source

_SPACE = re.compile(r"[ \t\r\n]*")
_BUFFER = 1 << 16
MOST_NESTED = 100
"""Levels of a row: a tenth of those at which Python's own recursion ends."""
_NEAR_END = 16
"""Characters of the longest word of JSON and its like: nearer to the end of what was read, a mistake may be none."""


@dataclass(frozen=True)
class Record:
    """One parsed row."""

    place: str
    values: dict[str, Any]


def json_lines(source: Source) -> Generator[Record | Rejected, None, None]:
    """One object per line."""
    # Only line feeds end a line: JSON strings may hold U+2028 and the like as they are.
    with source.open_text("\n") as stream:
        number = 0
        while line := stream.readline(source.max_row + 1):
            number += 1
            if len(line) > source.max_row and not line.endswith("\n"):
                _skip_line(stream)
                yield Rejected(Row(f"{source.name}:{number}", None), too_long(source.max_row))
            elif line.strip():
                yield json_line(f"{source.name}:{number}", line)


def _skip_line(stream: TextIO) -> None:
    while (piece := stream.readline(_BUFFER)) and not piece.endswith("\n"):
        pass


def too_long(limit: int) -> str:
    """The reason for a row that is longer than a row may be."""
    return f"is longer than {limit:,} characters (store.max_row_characters)"


def json_line(place: str, line: str) -> Record | Rejected:
    """The row of one line of JSON."""
    try:
        values = json.loads(line, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        return Rejected(Row(place, None), f"is not JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return Rejected(Row(place, None), f"is not usable JSON: {error}")
    return _json_record(place, values, line)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        # Which of the two is meant is not for a parser to choose. The key may be a labeler's id: it is not quoted.
        raise _KeyTwiceError("a key stands twice in one object")
    return values


class _KeyTwiceError(ValueError):
    pass


class _Text:
    """What was read of a JSON list and not yet used."""

    def __init__(self, source: Source, stream: TextIO) -> None:
        self.source, self.stream = source, stream
        self.buffer, self.place, self.lines, self.ended = "", 0, 0, False

    def more(self) -> bool:
        """Read as much again as is unused; False at the end of the file."""
        unused = len(self.buffer) - self.place
        if unused > self.source.max_row:
            raise BadInputError(
                f"{self.source.name}:{self.line(self.place)}: the entry that begins here "
                f"{too_long(self.source.max_row)}"
            )
        piece = self.stream.read(max(_BUFFER, unused))
        self.lines += self.buffer.count("\n", 0, self.place)
        self.buffer, self.place = self.buffer[self.place :] + piece, 0
        self.ended = not piece
        return bool(piece)

    def enter(self) -> None:
        """Go behind the bracket that opens the list."""
        while "[" not in self.buffer:
            self.place = len(self.buffer)
            self.more()
        self.place = self.buffer.index("[") + 1

    def next(self) -> str:
        """The next character that is no white space, not yet used; empty at the end of the file."""
        while True:
            found = _SPACE.match(self.buffer, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.buffer) or not self.more():
                return self.buffer[self.place : self.place + 1]

    def line(self, place: int) -> int:
        """The line of a place in the buffer."""
        return self.lines + self.buffer.count("\n", 0, place) + 1


def json_list(source: Source) -> Generator[Record | Rejected, None, None]:
    """Entries one by one; behind one that is no JSON nothing can be told apart, so the file is refused whole."""
    with source.open_text("") as stream:
        text = _Text(source, stream)
        text.enter()
        number, closed = 0, text.next() == "]"
        while not closed:
            number += 1
            yield _entry(text, f"{source.name}:{number}", number)
            follows = text.next()
            closed = follows == "]"
            if not closed and follows != ",":
                found = repr(text.buffer[text.place : text.place + 10]) if follows else "the end of the file"
                raise BadInputError(
                    f"{source.name}: behind entry {number} of the list: found {found}; expected ',' or ']'"
                )
            text.place += not closed
            text.next()
        text.place += 1
        if text.next():
            raise BadInputError(
                f"{source.name}: there is text behind the list; expected one list, or one JSON object per line"
            )


def _entry(text: _Text, place: str, number: int) -> Record | Rejected:
    """The entry that begins at the text's place, which is moved behind it."""
    decoder, twice = json.JSONDecoder(object_pairs_hook=_object), None
    while True:
        try:
            values, end = decoder.raw_decode(text.buffer, text.place)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.buffer) - _NEAR_END
            line = text.line(error.pos)
            if cut and not text.ended and text.more():
                continue
            raise BadInputError(
                f"{text.source.name}:{line}: entry {number} of the list is not JSON: {error.msg}"
            ) from error
        except _KeyTwiceError as error:
            decoder, twice = json.JSONDecoder(), str(error)  # it is one entry all the same: find its end
            continue
        except (ValueError, RecursionError) as error:
            raise BadInputError(
                f"{text.source.name}: entry {number} of the list is not usable JSON: {error}"
            ) from error
        # A number may go on behind what was read.
        if end == len(text.buffer) and not text.ended and text.more():
            continue
        entry = text.buffer[text.place : end]
        text.place = end
        return Rejected(Row(place, None), twice) if twice else _json_record(place, values, entry)


def _json_record(place: str, values: Any, text: str) -> Record | Rejected:
    if not isinstance(values, dict):
        return Rejected(Row(place, None), f"found a JSON {type(values).__name__}; expected an object")
    if text.count("[") + text.count("{") > MOST_NESTED and _nested_too_deeply(values):
        return Rejected(Row(place, None), f"is nested more than {MOST_NESTED} levels deep; no format of feedback is")
    if "\\ud" in text.lower() and not _is_text(values):
        return Rejected(Row(place, None), "holds half of a surrogate pair (\\ud800 to \\udfff), which is no text")
    return Record(place, values)


def _nested_too_deeply(values: Any) -> bool:
    """Not by recursion, which is what would fail on such a value."""
    level = [values]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True


def _is_text(values: dict[str, Any]) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
