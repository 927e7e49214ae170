"""What stands between importers and the store: texts are redacted, and nothing forgotten is taken again.

In: outcomes of an importer. Out: the same outcomes with redacted texts, without labels of forgotten labelers and
responses with forgotten texts, and the counts of both. Everything that was not judged by anybody else becomes
``Skipped``, so that rows stay accounted for.

A forgotten text takes what was said of it along: its response leaves the group with every label on it; a group goes
where its prompt was forgotten, or nothing is left to say of it.

Importers make ids of texts as they came (``content_id``). Where something was taken out of a group, a keyed hash stands
in their place: guesses at what was there could be tried on a plain one.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from rewardloop.config import PrivacySettings
from rewardloop.feedback.forgotten import FORGOTTEN, ForgottenList, marks_of, prompt_mark, read_forgotten
from rewardloop.feedback.forgotten_texts import ForgottenTexts
from rewardloop.feedback.importers.base import LabelerId, Outcome, Rejected, Repeated, Row, Skipped, Taken
from rewardloop.feedback.pseudonyms import keyed_hash, pseudonym
from rewardloop.feedback.redaction import Redactor
from rewardloop.records import Acceptable, Choice, FeedbackGroup, Label, Ranking, Rating
from rewardloop.storage import Storage

GONE = "[FORGOTTEN]"
"""Stands for a forgotten text in a quarantined row."""
_CONTENT_ID = re.compile(r"(?<![^\W_])c_[0-9a-f]{16}(?![^\W_])")
"""What ``content_id`` makes; ids may be joined of several."""


@dataclass
class Protection:
    """For one ingest; what follows ``key`` changes while outcomes pass.

    ``redacted``: what was taken out of rows, each row once, as the store has it. ``labels``: those dropped, since
    forgotten. ``has_keyed_ids``: some ids follow from the key, so that another key would make other records.
    """

    redactor: Redactor
    forgotten: ForgottenList
    key: bytes
    redacted: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    has_keyed_ids: bool = False

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
        """A text as the store may have it; not counted."""
        return self.redactor.redact(text) if self.redactor else text

    def _counted(self, text: str) -> str:
        return self.redactor.redact(text, self.redacted) if self.redactor else text

    def _allowed(self, outcome: Outcome) -> tuple[Outcome, ...]:
        if isinstance(outcome, Taken):
            group = self._kept(outcome.group)
            redacted = group and self._redacted(group)
            # A text is forgotten as it came, or as the store has it.
            group = redacted if redacted is None or redacted is group else self._kept(redacted)
            # Of rows that are taken the store has the group only.
            rows = tuple(self._row(row, self.text) for row in outcome.rows)
            if group is None:
                return tuple(Skipped(row, FORGOTTEN) for row in rows)
            return (replace(outcome, group=group, rows=rows, left_out=tuple(map(self.text, outcome.left_out))),)
        if isinstance(outcome, Rejected):
            return (self._rejected(outcome),)
        row = self._row(outcome.row, self.text)
        return (Repeated(row) if isinstance(outcome, Repeated) else Skipped(row, self.text(outcome.reason)),)

    def _rejected(self, outcome: Rejected) -> Rejected:
        row = self._row(outcome.row, self._counted)
        # What a reason quotes is in its row, and counted there.
        reason = (self._counted if row.raw is None else self.text)(outcome.reason)
        if self.redactor and (row.raw is None or row.raw != outcome.row.raw):
            return Rejected(Row(row.place, self._keyed_raw(row.raw)), self._keyed(reason))
        return Rejected(row, reason)

    def _row(self, row: Row, text: Callable[[str], str]) -> Row:
        known = row.raw is not None and not self._mentions(row.raw)
        return Row(self.text(row.place), self._raw(row.raw, text) if known else None)

    def _mentions(self, value: Any) -> bool:
        """Whether a forgotten labeler is named inside: then nothing of the row is kept but its place."""
        if isinstance(value, LabelerId):
            return self._is_forgotten(value)
        if isinstance(value, dict):
            return any(self._mentions(part) for item in value.items() for part in item)
        return isinstance(value, list | tuple) and any(self._mentions(part) for part in value)

    def _raw(self, value: Any, text: Callable[[str], str]) -> Any:
        """Every text inside; ids of labelers become pseudonyms later."""
        if isinstance(value, str) and not isinstance(value, LabelerId):
            redacted = GONE if self._has_mark(value) else text(value)
            return GONE if self._has_mark(redacted) else redacted
        if isinstance(value, dict):
            return _named((self._raw(name, text), self._raw(part, text)) for name, part in value.items())
        if isinstance(value, list | tuple):
            return [self._raw(part, text) for part in value]
        return value

    def _keyed_raw(self, value: Any) -> Any:
        """With keyed hashes for the ids inside that were made of texts."""
        if isinstance(value, str) and not isinstance(value, LabelerId):
            return self._keyed(value) if _CONTENT_ID.fullmatch(value) else value
        if isinstance(value, dict):
            return {self._keyed_raw(name): self._keyed_raw(part) for name, part in value.items()}
        return [self._keyed_raw(part) for part in value] if isinstance(value, list) else value

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
        """The group without what is taken out; itself where that is nothing."""
        if not self.redactor:
            return group
        text = self._counted
        responses = [
            one.model_copy(update={"content": text(one.content), "model": one.model and text(one.model)})
            for one in group.responses
        ]
        labels = [one.model_copy(update={"criterion": self.text(one.criterion)}) for one in group.labels]
        redacted = group.model_copy(
            update={
                "prompt": tuple(one.model_copy(update={"content": text(one.content)}) for one in group.prompt),
                "responses": tuple(responses),
                "labels": tuple(labels),
                "segment": group.segment and text(group.segment),
                "source": group.source and text(group.source),
            }
        )
        listed = (group.group_id, group.document_id, *(one.response_id for one in group.responses))
        # Each id once, however many labels name it.
        ids = {one: self._id(one) for one in listed if one is not None}
        if redacted == group and all(one == new for one, new in ids.items()):
            return group
        ids = {one: self._keyed(new) for one, new in ids.items()}
        self.has_keyed_ids |= any(one != new for one, new in ids.items())
        return redacted.model_copy(
            update={
                "group_id": ids[group.group_id],
                "document_id": None if group.document_id is None else ids[group.document_id],
                "responses": tuple(one.model_copy(update={"response_id": ids[one.response_id]}) for one in responses),
                "labels": tuple(_renamed(one, ids) for one in labels),
            }
        )

    def _id(self, value: str) -> str:
        """An id as the store may have it: two that differ must differ still."""
        shown = value if _CONTENT_ID.fullmatch(value) else self._counted(value)
        return value if shown == value else f"{shown} {keyed_hash(self.key, value)}"

    def _keyed(self, text: str) -> str:
        """With keyed hashes for the ids inside that were made of texts.

        Not ids of the redacted texts: two texts may have become one, and what was said of them would be one label.
        """
        return _CONTENT_ID.sub(lambda found: f"c_{keyed_hash(self.key, found[0])}", text)

    def _is_forgotten(self, labeler: str) -> bool:
        if labeler not in self._names:
            self._names[labeler] = pseudonym(self.key, labeler) in self._labelers
        return self._names[labeler]

    def _has_mark(self, text: str) -> bool:
        return ForgottenTexts(self.key, self._texts).in_raw(text)


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
    name = _SAID[type(label)]
    said = {response: value for response, value in getattr(label, name).items() if response not in gone}
    # One answer alone has no rank.
    if not said or (isinstance(label, Ranking) and len(said) < 2):
        return None
    return label.model_copy(update={name: said})


def _renamed(label: Label, ids: Mapping[str, str]) -> Label:
    """The label with other ids of the responses."""
    if isinstance(label, Choice):
        return label.model_copy(update={"chosen": ids[label.chosen], "rejected": ids[label.rejected]})
    name = _SAID[type(label)]
    return label.model_copy(update={name: {ids[one]: value for one, value in getattr(label, name).items()}})


_SAID = {Ranking: "ranks", Rating: "scores", Acceptable: "acceptable"}
"""Kind of a label -> the field with a value per response."""


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
