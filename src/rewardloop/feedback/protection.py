"""What stands between importers and the store: texts are redacted, and nothing forgotten is taken again.

In: outcomes of an importer. Out: the same outcomes with redacted texts, without labels of forgotten labelers and
responses with forgotten texts, and the counts of both. Everything that was not judged by anybody else becomes
``Skipped``, so that rows stay accounted for.

A forgotten text takes what was said of it along: its response leaves the group with every label on it; a group goes
where its prompt was forgotten, or nothing is left to say of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from rewardloop.config import PrivacySettings
from rewardloop.feedback.forgotten import FORGOTTEN, ForgottenList, marks_of, prompt_mark, read_forgotten
from rewardloop.feedback.importers.base import LabelerId, Outcome, Rejected, Repeated, Row, Skipped, Taken
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.redaction import Redactor
from rewardloop.records import Acceptable, Choice, FeedbackGroup, Label, Ranking, Rating
from rewardloop.storage import Storage

GONE = "[FORGOTTEN]"
"""Stands for a forgotten text in a quarantined row."""


@dataclass
class Protection:
    """For one ingest; ``redacted`` and ``labels`` (dropped, since forgotten) grow while outcomes pass."""

    redactor: Redactor
    forgotten: ForgottenList
    key: bytes
    redacted: Counter[str] = field(default_factory=Counter)
    labels: int = 0

    @classmethod
    def of(cls, storage: Storage, settings: PrivacySettings, key: bytes) -> "Protection":
        """By the settings, and by the store's list of what was forgotten."""
        return cls(Redactor(settings.redact, settings.regions), read_forgotten(storage), key)

    def __post_init__(self) -> None:
        self._labelers, self._texts = self.forgotten.labelers, self.forgotten.texts
        self._names: dict[str, bool] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is redacted and nothing was ever forgotten: outcomes pass as they are."""
        return not (self.redactor or self._labelers or self._texts)

    def over(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """The outcomes as the store may have them."""
        return iter(outcomes) if self.is_idle else chain.from_iterable(map(self._allowed, outcomes))

    def text(self, text: str) -> str:
        """A text as the store may have it."""
        return self.redactor.redact(text, self.redacted) if self.redactor else text

    def _allowed(self, outcome: Outcome) -> tuple[Outcome, ...]:
        if isinstance(outcome, Taken):
            group = self._kept(outcome.group)
            rows = tuple(self._row(row) for row in outcome.rows)
            if group is None:
                return tuple(Skipped(row, FORGOTTEN) for row in rows)
            return (replace(outcome, group=self._redacted(group), rows=rows),)
        row = self._row(outcome.row)
        if isinstance(outcome, Rejected):
            return (Rejected(row, self.text(outcome.reason)),)
        return (Repeated(row) if isinstance(outcome, Repeated) else Skipped(row, outcome.reason),)

    def _row(self, row: Row) -> Row:
        known = row.raw is not None and not self._mentions(row.raw)
        return Row(self.text(row.place), self._raw(row.raw) if known else None)

    def _mentions(self, value: Any) -> bool:
        """Whether a forgotten labeler is named inside: then nothing of the row is kept but its place."""
        if isinstance(value, LabelerId):
            return self._is_forgotten(value)
        if isinstance(value, dict):
            return any(self._mentions(part) for item in value.items() for part in item)
        return isinstance(value, list | tuple) and any(self._mentions(part) for part in value)

    def _raw(self, value: Any) -> Any:
        """Every text inside; ids of labelers become pseudonyms later."""
        if isinstance(value, str) and not isinstance(value, LabelerId):
            return GONE if self._has_mark(value) else self.text(value)
        if isinstance(value, dict):
            return _named((self._raw(name), self._raw(part)) for name, part in value.items())
        if isinstance(value, list | tuple):
            return [self._raw(part) for part in value]
        return value

    def _kept(self, group: FeedbackGroup) -> FeedbackGroup | None:
        labels = tuple(one for one in group.labels if not (one.labeler and self._is_forgotten(one.labeler)))
        self.labels += len(group.labels) - len(labels)
        group = group if len(labels) == len(group.labels) else group.model_copy(update={"labels": labels})
        if labels and self._texts:
            kept = without_texts(group, self.key, self._texts)
            self.labels += len(labels) - (len(kept.labels) if kept else 0)
            return kept
        return group if labels else None

    def _redacted(self, group: FeedbackGroup) -> FeedbackGroup:
        if not self.redactor:
            return group
        prompt = tuple(one.model_copy(update={"content": self.text(one.content)}) for one in group.prompt)
        responses = tuple(one.model_copy(update={"content": self.text(one.content)}) for one in group.responses)
        named = {
            name: self.text(value) for name in ("segment", "source") if (value := getattr(group, name)) is not None
        }
        ids = {
            name: self._id(value) for name in ("group_id", "document_id") if (value := getattr(group, name)) is not None
        }
        return group.model_copy(update={"prompt": prompt, "responses": responses, **named, **ids})

    def _id(self, value: str) -> str:
        """An id as the store may have it: two that differ must differ still."""
        shown = self.text(value)
        return value if shown == value else f"{shown} {pseudonym(self.key, value).removeprefix('l_')}"

    def _is_forgotten(self, labeler: str) -> bool:
        if labeler not in self._names:
            # What was exported from a store comes back under its pseudonym.
            self._names[labeler] = not self._labelers.isdisjoint({labeler, pseudonym(self.key, labeler)})
        return self._names[labeler]

    def _has_mark(self, text: str) -> bool:
        return bool(self._texts) and not self._texts.isdisjoint(marks_of(self.key, text))


def without_texts(group: FeedbackGroup, key: bytes, marks: frozenset[str]) -> FeedbackGroup | None:
    """The group without forgotten texts and what was said of them; the group itself where it has none.

    Returns:
        None where its prompt (a turn of it, or all together) was forgotten, or no label is left.
    """
    turns = [(message.role, message.content) for message in group.prompt]
    if any(not marks.isdisjoint(marks_of(key, content)) for _, content in turns):
        return None
    if turns and prompt_mark(key, turns) in marks:
        return None
    gone = {one.response_id for one in group.responses if not marks.isdisjoint(marks_of(key, one.content))}
    if not gone:
        return group
    responses = tuple(one for one in group.responses if one.response_id not in gone)
    labels = tuple(kept for label in group.labels if (kept := _without(label, gone)) is not None)
    if not responses or not labels:
        return None
    return group.model_copy(update={"responses": responses, "labels": labels})


def _without(label: Label, gone: set[str]) -> Label | None:
    """The label without what it says of these responses; None where nothing is left to say."""
    if isinstance(label, Choice):
        return None if gone & {label.chosen, label.rejected} else label
    name = {Ranking: "ranks", Rating: "scores", Acceptable: "acceptable"}[type(label)]
    said = {response: value for response, value in getattr(label, name).items() if response not in gone}
    # One answer alone has no rank.
    if not said or (isinstance(label, Ranking) and len(said) < 2):
        return None
    return label.model_copy(update={name: said})


def _named(parts: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary of the parts; names that have become equal are told apart, so that nothing is lost."""
    made: dict[Any, Any] = {}
    for name, part in parts:
        number, shown = 1, name
        while shown in made:
            number += 1
            shown = f"{name} {number}"
        made[shown] = part
    return made
