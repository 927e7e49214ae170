"""Whether something holds a forgotten text, and which text that is.

In: marks, and texts, prompts, rows or JSON trees. Out: yes or no; what was met is remembered, to look for it in copies.
A mark is of a text or of a whole prompt, and a user's file may have both in one transcript: each is looked for in every
form that importers know.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewardloop.feedback.forgotten import marks_of, prompt_mark
from rewardloop.feedback.importers.base import RowError
from rewardloop.feedback.importers.transcripts import is_transcript, prompt_of

_Turns = Sequence[tuple[str, str]]
"""(role, content) of each."""
_ANSWER = "\n\nAssistant:"
_INSTRUCTION = "system"


@dataclass
class ForgottenTexts:
    """Looks for ``marks``; ``met`` are those under which something was found."""

    key: bytes
    marks: frozenset[str]
    texts: set[str] = field(default_factory=set)
    """Forgotten texts, as they stood there."""
    turns: set[str] = field(default_factory=set)
    """What was said in prompts that were forgotten whole; an operator's instruction tells of nobody."""
    met: set[str] = field(default_factory=set)

    @property
    def said(self) -> frozenset[str]:
        """Everything to look for in copies."""
        return frozenset(self.texts | self.turns)

    def is_text(self, text: str) -> bool:
        """Whether just this text was forgotten."""
        found = self.marks & marks_of(self.key, text) if self.marks else frozenset()
        if found:
            self.met |= found
            self.texts.add(text)
        return bool(found)

    def is_prompt(self, turns: _Turns) -> bool:
        """Whether just this whole prompt was forgotten."""
        if not self.marks or not turns:
            return False
        try:
            mark = prompt_mark(self.key, turns)
        except UnicodeEncodeError:
            return False  # half of a surrogate pair is in no prompt that was ever taken
        if mark in self.marks:
            self.met.add(mark)
            self.turns.update(content for role, content in turns if role != _INSTRUCTION)
        return mark in self.marks

    # Every part is looked at, also behind the first find: each may hold another text.

    def in_row(self, row: Mapping[str, Any]) -> bool:
        """Whether a row with ``prompt`` and ``response`` holds one: the prompt, one turn of it, or the answer."""
        turns = [(turn["role"], turn["content"]) for turn in row["prompt"] or []]
        texts = [*(content for _, content in turns), row["response"] or ""]
        return any([self.is_prompt(turns), *map(self.is_text, texts)])

    def in_raw(self, text: str) -> bool:
        """Whether a text of a user's file is one, a prompt of one turn, or a transcript or JSON that has one."""
        if not self.marks:
            return False
        parts = [self._in_turns(_turns_of(text)), self._in_cell(text)]
        return any([self.is_text(text), self.is_prompt([("user", text)]), *parts])

    def in_tree(self, value: Any) -> bool:
        """Whether a JSON tree of a user's file holds one, names included."""
        if not self.marks:
            return False
        return any([*map(self.in_raw, texts_in(value)), *map(self.is_prompt, _prompts_in(value))])

    def _in_cell(self, text: str) -> bool:
        if text[:1] not in ("[", "{"):
            return False
        try:
            return self.in_tree(json.loads(text))
        except (json.JSONDecodeError, RecursionError):
            return False  # no JSON, or nested deeper than any importer reads

    def _in_turns(self, turns: _Turns) -> bool:
        return any([*map(self.is_prompt, _prompts_of(turns)), *(self.is_text(content) for _, content in turns)])


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON tree, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from texts_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_in(part)


def _prompts_in(value: Any) -> Iterator[_Turns]:
    """Every list of messages in a JSON tree."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _prompts_in(part)
    elif isinstance(value, list):
        turns = [
            (one["role"], one["content"])
            for one in value
            if isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        ]
        if turns and len(turns) == len(value):
            yield from _prompts_of(turns)
        for part in value:
            yield from _prompts_in(part)


def _prompts_of(turns: _Turns) -> Iterator[_Turns]:
    """What may be the prompt in a conversation: all of it, or all but the answer at its end."""
    yield turns
    if turns and turns[-1][0] == "assistant":
        yield turns[:-1]


def _turns_of(text: str) -> _Turns:
    """The turns of a transcript as the HH data write them; none where the text is no transcript."""
    if not is_transcript(text):
        return []
    try:
        messages = prompt_of(text.rstrip().removesuffix(_ANSWER) + _ANSWER) or ()
    except RowError:
        return []
    return [(message.role, message.content) for message in messages]
