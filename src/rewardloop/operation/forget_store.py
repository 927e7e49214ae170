"""Everything of the store beside its batches: what is forgotten goes from there too.

In: the store's list. Out: golden groups, anchors, quarantine, decision log, text sets and kept results without it, and
what that was. Files are replaced whole, so that cleaning twice is cleaning once. Hashes of golden documents stay: the
set is never trained on, whatever was forgotten of it.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from pydantic import ValidationError

from rewardloop.errors import BadInputError
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.feedback.forgotten import ForgottenList, Replaced, marks_of, prompt_mark, text_mark
from rewardloop.feedback.rewriting import marked_texts, rewrite
from rewardloop.feedback.store import FeedbackStore
from rewardloop.kept import Kept
from rewardloop.operation.forget_batches import parquet
from rewardloop.storage import Storage
from rewardloop.transfer import remove

FORGOTTEN_ROW = "forgotten"
"""The reason of a quarantined row that held something forgotten; its content is gone."""


@dataclass
class InStore:
    """What was found; ``texts`` are the forgotten texts themselves, to look for in copies."""

    quarantined: int = 0
    decisions: int = 0
    places: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)


def clean_store(
    store: FeedbackStore,
    key: bytes,
    known: ForgottenList,
    replaced: Replaced,
    *,
    write: bool,
    labelers: frozenset[str] | None = None,
    marks: frozenset[str] | None = None,
) -> InStore:
    """Clean everything but the batches.

    Args:
        store: the feedback store.
        key: of pseudonyms and marks.
        known: what is forgotten.
        replaced: the batches that hold it; they are still there.
        write: False: only look.
        labelers, marks: in place of the list's, for a look ahead.
    """
    cleaner = _Cleaner(
        store,
        key,
        known,
        known.labelers if labelers is None else labelers,
        known.texts if marks is None else marks,
        write,
    )
    cleaner.gather(replaced)
    cleaner.golden()
    cleaner.quarantine(replaced)
    cleaner.decisions()
    cleaner.text_sets()
    cleaner.kept(replaced)
    return cleaner.found


@dataclass
class _Cleaner:
    store: FeedbackStore
    key: bytes
    known: ForgottenList
    labelers: frozenset[str]
    marks: frozenset[str]
    write: bool
    found: InStore = field(default_factory=InStore)

    def __post_init__(self) -> None:
        self.storage: Storage = self.store.storage

    def gather(self, replaced: Replaced) -> None:
        """The texts, from the batches that hold them."""
        for digest in replaced.batches:
            try:
                self.found.texts |= marked_texts(self.store.read_batch(digest), self.key, self.marks)
            except BadInputError:
                continue  # removed by an attempt before this one, after everything else was clean
        # A log without texts knows them by other hashes than the one that was given.
        for text in self.found.texts:
            self.marks |= marks_of(self.key, text) | {prompt_mark(self.key, [("user", text)])}

    def golden(self) -> None:
        """The golden groups and the anchors."""
        name = "golden/records.parquet"
        if self.storage.exists(name):
            result = rewrite(self._table(name), self.key, self.labelers, self.marks)
            if result.is_changed:
                self._replace(name, result.frame)
        name = "anchors/responses.parquet"
        if self.marks and self.storage.exists(name):
            self._filter(name)

    def text_sets(self) -> None:
        """Prompts, demonstrations and texts that runs were given: a run makes them again from the file of the user."""
        if not self.marks:
            return
        for file in self.storage.list("texts"):
            name = f"texts/{file}"
            if name.endswith(".parquet") and any(map(self._row_is_forgotten, self._table(name).iter_rows(named=True))):
                self.found.places.append(name)
                if self.write:
                    remove(self.storage, name)

    def kept(self, replaced: Replaced) -> None:
        """Whatever steps kept of the batches, under every digest these ever had, and what killed writers left."""
        old = {name for batch in replaced.batches for name in self.known.names_of(batch)}
        kept = Kept(self.storage)
        for result in kept.results():
            batches = kept.batches_of(result)
            if batches is None or not old.isdisjoint(batches):
                self.found.places.append(result.place)
                if self.write:
                    kept.remove(result.kind, result.key)

    def quarantine(self, replaced: Replaced) -> None:
        """Rows keep their place and lose their content; those of a rewritten batch go where it went."""
        for digest in self.storage.list("quarantine"):
            target = replaced.batches[digest].by if digest in replaced.batches else None
            for file in self.storage.list(f"quarantine/{digest}"):
                name = f"quarantine/{digest}/{file}"
                lines = self.storage.read(name).split(b"\n")
                kept = [self._quarantined(line) for line in lines]
                moved = f"quarantine/{target}/{file.removesuffix('.jsonl')}-{digest[:12]}.jsonl" if target else name
                if kept == lines and moved == name:
                    continue
                self.found.places.append(name)
                if self.write:
                    self.storage.write(moved, b"\n".join(kept), mode=0o600)
                    if moved != name:
                        remove(self.storage, name)
            if target and self.write:
                remove(self.storage, f"quarantine/{digest}")

    def decisions(self) -> None:
        """Decisions on forgotten texts, and those asked for by somebody forgotten."""
        for date in self.storage.list("decisions"):
            for file in self.storage.list(f"decisions/{date}"):
                name = f"decisions/{date}/{file}"
                lines = self.storage.read(name).split(b"\n")
                kept = [line for line in lines if not self._is_forgotten_decision(line)]
                if len(kept) == len(lines):
                    continue
                self.found.decisions += len(lines) - len(kept)
                self.found.places.append(name)
                if not self.write:
                    continue
                if any(line.strip() for line in kept):
                    self.storage.write(name, b"\n".join(kept))
                else:
                    remove(self.storage, name)

    def _quarantined(self, line: bytes) -> bytes:
        try:
            content = json.loads(line)
            row = content["row"]
        except (ValueError, TypeError, KeyError):
            return line
        if row is None:
            return line
        texts = [text for text in _texts_in(row) if self._is_marked(text)]
        if not texts and not any(text in self.labelers for text in _texts_in(row)):
            return line
        self.found.texts.update(texts)
        self.found.quarantined += 1
        return json.dumps({"place": content.get("place"), "reason": FORGOTTEN_ROW, "row": None}).encode()

    def _is_forgotten_decision(self, line: bytes) -> bool:
        try:
            record = DecisionRecord.model_validate_json(line)
        except ValidationError:
            return False
        if record.user is not None and record.user in self.labelers:
            return True
        if not self.marks:
            return False
        hashes = (record.prompt_hash, record.response_hash)
        if not self.marks.isdisjoint(text_mark(self.key, digest) for digest in hashes):
            return True
        texts = [record.response or "", *(turn.get("content", "") for turn in record.prompt or [])]
        return any(self._is_marked(text) for text in texts)

    def _row_is_forgotten(self, row: dict[str, Any]) -> bool:
        turns = [(turn["role"], turn["content"]) for turn in row["prompt"] or []]
        texts = [*(content for _, content in turns), row["response"] or ""]
        found = [text for text in texts if self._is_marked(text)]
        self.found.texts.update(found)
        return bool(found) or (bool(turns) and prompt_mark(self.key, turns) in self.marks)

    def _is_marked(self, text: str) -> bool:
        return bool(self.marks) and not self.marks.isdisjoint(marks_of(self.key, text))

    def _filter(self, name: str) -> None:
        frame = self._table(name)
        gone = [self._row_is_forgotten(row) for row in frame.iter_rows(named=True)]
        if any(gone):
            self._replace(name, frame.filter(~pl.Series(gone, dtype=pl.Boolean)))

    def _table(self, name: str) -> pl.DataFrame:
        try:
            return pl.read_parquet(io.BytesIO(self.storage.read(name)))
        except pl.exceptions.PolarsError as error:
            raise BadInputError(f"{self.storage.path(name)}: cannot be read: {error}; restore it") from error

    def _replace(self, name: str, frame: pl.DataFrame) -> None:
        self.found.places.append(name)
        if self.write:
            self.storage.write(name, parquet(frame))


def _texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON tree, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from _texts_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts_in(part)
