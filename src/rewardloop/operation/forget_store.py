"""Everything of the store beside its batches: what is forgotten goes from there too.

In: the store's list. Out: golden groups, anchors, quarantine, decision log, text sets, answers to their prompts and
kept results without it, and what that was. Files are replaced whole, so that cleaning twice is cleaning once. Hashes of
golden documents stay: the set is never trained on, whatever was forgotten of it.
"""

import json
from dataclasses import dataclass, field

import polars as pl
from pydantic import ValidationError

from rewardloop.errors import BadInputError
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.feedback.forgotten import ForgottenList, Replaced, marks_of, prompt_mark, text_mark
from rewardloop.feedback.forgotten_texts import ForgottenTexts
from rewardloop.feedback.rewriting import meet_texts, rewrite
from rewardloop.feedback.store import FeedbackStore
from rewardloop.kept import Kept
from rewardloop.operation.forget_batches import parquet
from rewardloop.operation.forget_scrub import Scrubber
from rewardloop.operation.forget_text_sets import read_table, text_sets_with
from rewardloop.storage import Storage
from rewardloop.transfer import remove

FORGOTTEN_ROW = "forgotten"
"""The reason of a quarantined row that held something forgotten; its content is gone."""


@dataclass
class InStore:
    """What was found."""

    quarantined: int = 0
    decisions: int = 0
    places: list[str] = field(default_factory=list)


def seek_texts(store: FeedbackStore, key: bytes, marks: frozenset[str], replaced: Replaced) -> ForgottenTexts:
    """The forgotten texts themselves, from wherever the store has them whole: they are looked for inside others."""
    sought = ForgottenTexts(key, marks)
    if not marks:
        return sought
    for digest in replaced.batches:
        try:
            meet_texts(store.read_batch(digest), sought)
        except BadInputError:
            continue  # removed by an attempt before this one, after everything else was clean
    looking = _Cleaner(store, ForgottenList(), frozenset(), sought, write=False)
    looking.quarantine(replaced)
    looking.decisions()
    looking.golden()
    looking.text_sets(replaced)
    # A log without texts knows them by other hashes than the one that was given.
    more = {mark for text in sought.texts for mark in (*marks_of(key, text), prompt_mark(key, [("user", text)]))}
    return ForgottenTexts(key, marks | more, sought.texts, sought.turns, sought.met)


def clean_store(
    store: FeedbackStore,
    known: ForgottenList,
    replaced: Replaced,
    labelers: frozenset[str],
    sought: ForgottenTexts,
    *,
    write: bool,
) -> InStore:
    """Clean everything but the batches.

    Args:
        store: the feedback store.
        known: what is forgotten, and which batches are in the place of which.
        replaced: the batches and text sets that hold it.
        labelers: pseudonyms.
        sought: as ``seek_texts`` gives it.
        write: False: only look.
    """
    cleaner = _Cleaner(store, known, labelers, sought, write)
    cleaner.quarantine(replaced)  # first: what it holds is known by texts of the others
    cleaner.decisions()
    cleaner.golden()
    cleaner.kept(replaced)
    cleaner.text_sets(replaced)
    return cleaner.found


@dataclass
class _Cleaner:
    store: FeedbackStore
    known: ForgottenList
    labelers: frozenset[str]
    sought: ForgottenTexts
    write: bool
    found: InStore = field(default_factory=InStore)

    def __post_init__(self) -> None:
        self.storage: Storage = self.store.storage
        self.scrubber = Scrubber(self.labelers, sorted(self.sought.said, key=len, reverse=True))

    def golden(self) -> None:
        """The golden groups and the anchors."""
        name = "golden/records.parquet"
        if self.storage.exists(name):
            table = read_table(self.storage, name)
            meet_texts(table, self.sought)
            result = rewrite(table, self.sought.key, self.labelers, self.sought.marks)
            if result.is_changed:
                self._replace(name, result.frame)
        name = "anchors/responses.parquet"
        if self.sought.marks and self.storage.exists(name):
            self._filter(name)

    def text_sets(self, replaced: Replaced) -> None:
        """Text sets, and answers to their prompts: a run makes them again from the file of the user."""
        for name in sorted({*text_sets_with(self.storage, self.sought), *replaced.text_sets}):
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
        # A text may stand inside a longer one: an answer in a transcript, a field in a cell of JSON.
        if not self.sought.in_tree(row) and self.scrubber.tree(row) == row:
            return line
        self.found.quarantined += 1
        return json.dumps({"place": content.get("place"), "reason": FORGOTTEN_ROW, "row": None}).encode()

    def _is_forgotten_decision(self, line: bytes) -> bool:
        try:
            record = DecisionRecord.model_validate_json(line)
        except ValidationError:
            return False
        if record.user is not None and record.user in self.labelers:
            return True
        if not self.sought.marks:
            return False
        hashes = (record.prompt_hash, record.response_hash)
        known = not self.sought.marks.isdisjoint(text_mark(self.sought.key, digest) for digest in hashes)
        prompt = [{"role": turn.get("role", ""), "content": turn.get("content", "")} for turn in record.prompt or []]
        return self.sought.in_row({"prompt": prompt, "response": record.response}) or known

    def _filter(self, name: str) -> None:
        frame = read_table(self.storage, name)
        gone = [self.sought.in_row(row) for row in frame.iter_rows(named=True)]
        if any(gone):
            self._replace(name, frame.filter(~pl.Series(gone, dtype=pl.Boolean)))

    def _replace(self, name: str, frame: pl.DataFrame) -> None:
        self.found.places.append(name)
        if self.write:
            self.storage.write(name, parquet(frame))
