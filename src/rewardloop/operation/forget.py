"""A labeler or a text is forgotten: out of the store, out of every copy that can be reached, and never taken again.

In: whom or what, and why. Out: new batches in the place of those that held it, and a report of what went and of what is
left elsewhere. ``rewardloop.feedback.forgotten`` has the files by which this happens. Each step may be cut short at any
moment and is done again by whoever goes on: the announcement comes first, then new batches are written, then one file
puts all of them in force at once, then copies are cleaned, and the old batches go last of all.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.forgotten import (
    Forgetting,
    Forgotten,
    ForgottenList,
    Replaced,
    Replacement,
    Takeover,
    latest_owner,
    place,
    read_forgotten,
    text_mark,
)
from rewardloop.feedback.pseudonyms import key_fingerprint
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.store_files import StoreFile
from rewardloop.operation.forget_asked import Asked, ForgetReport, Subject
from rewardloop.operation.forget_batches import Found, look, put_in_place, remove_old_batches
from rewardloop.operation.forget_copies import trained_on_it, where_it_is_left
from rewardloop.operation.forget_home import Affected, clean_home
from rewardloop.operation.forget_runs import runs_in_the_way
from rewardloop.operation.forget_store import clean_store, seek_texts
from rewardloop.operation.processes import Owner, is_gone, this_owner

__all__ = ["Asked", "ForgetReport", "Forgetter", "Subject"]


@dataclass
class Forgetter:
    """The store, the machine and the registry that something is forgotten in."""

    settings: Settings
    store: FeedbackStore
    key: bytes
    tracking_uri: str
    say: Callable[[str], None] = lambda line: None
    sleep: Callable[[float], None] = time.sleep

    def forget(self, asked: Asked) -> list[ForgetReport]:
        """Forget, after finishing what was cut short before; one report for each.

        Without a subject only that is finished, and batches that came in meanwhile are looked at.

        Raises:
            BadInputError: another labeler key than the batches', a run that is under way with what has to go, a
                forgetting that another process is at work on, or a store that cannot create a file only if absent.
        """
        self._check_key()
        self.store.golden_generations()  # a first ingest that was cut short is finished before anything is rewritten
        reports = []
        while True:
            known = read_forgotten(self.store.storage)
            if known.unfinished is not None and not asked.dry_run:
                self._take_over(known.unfinished, asked)
                reports.append(self._work(known.unfinished, asked))
                continue
            marks = frozenset(text_mark(self.key, digest) for digest in asked.subject.texts)
            found = look(self.store, self.key, known.labelers | asked.subject.labelers, known.texts | marks)
            if asked.dry_run:
                return [self._would(found, known)]
            if not self._has_to(asked, marks, known, found):
                return reports or [ForgetReport(dry_run=False, sequence=None)]
            self._wait_for_runs(found.batches, found.text_sets, known, asked)
            made = self._announce(asked, marks, known.sequence + 1)
            if made is not None:
                return [*reports, self._work(made, asked)]
            # Another process announced in the same moment: what it does comes first.

    def _has_to(self, asked: Asked, marks: frozenset[str], known: ForgottenList, found: Found) -> bool:
        if asked.subject.labelers - known.labelers or marks - known.texts or found.anything:
            return True
        if any(map(known.unchecked, self.store.batches())):
            return True
        nothing = Replaced(at=datetime.now(UTC), batches={}, checked=[])
        sought = seek_texts(self.store, self.key, known.texts, nothing)
        held = clean_store(
            self.store, known, nothing, known.labelers, sought, write=False
        )  # decisions logged since, say
        return bool(held.quarantined or held.decisions)

    def _announce(self, asked: Asked, marks: frozenset[str], sequence: int) -> Forgetting | None:
        forgetting = Forgetting(
            sequence=sequence,
            at=datetime.now(UTC),
            by=asked.by,
            reason=asked.reason,
            labelers=sorted(asked.subject.labelers),
            texts=sorted(marks),
            owner=this_owner().model_dump(),
        )
        return forgetting if self._create(place(sequence), forgetting) else None

    def _take_over(self, forgetting: Forgetting, asked: Asked) -> None:
        """Become the one process at work on it."""
        number, about = latest_owner(self.store.storage, forgetting)
        owner = Owner.model_validate(about)
        if not is_gone(owner) and not asked.take_over:
            raise BadInputError(
                f"{place(forgetting.sequence)}: {owner} is at work on it since {forgetting.at:%Y-%m-%d %H:%M} UTC; "
                "wait until it is done. If that process is surely gone: rewardloop forget --take-over"
            )
        name = place(forgetting.sequence, f"takeover-{number + 1:04d}")
        if not self._create(name, Takeover(owner=this_owner().model_dump(), at=datetime.now(UTC))):
            raise BadInputError(f"{name}: another process has just gone on with it; wait until it is done")
        self.say(f"going on with {place(forgetting.sequence)}, which was cut short")

    def _work(self, forgetting: Forgetting, asked: Asked) -> ForgetReport:
        storage, sequence = self.store.storage, forgetting.sequence
        known = read_forgotten(storage)
        replaced = known.replaced.get(sequence)
        if replaced is None:
            found = look(self.store, self.key, known.labelers, known.texts)
            batches = put_in_place(self.store, found, sequence)
            checked, text_sets = sorted(found.checked), list(found.text_sets)
            made = Replaced(at=datetime.now(UTC), batches=batches, checked=checked, text_sets=text_sets)
            self._create(place(sequence, "replaced"), made)
            known = read_forgotten(storage)
            replaced = known.replaced[sequence]
        self.say(f"{len(replaced.batches):,} batches rewritten; copies are cleaned")
        self._wait_for_runs(replaced.batches, replaced.text_sets, known, asked)
        return self._clean(forgetting, replaced, known)

    def _clean(self, forgetting: Forgetting, replaced: Replaced, known: ForgottenList) -> ForgetReport:
        """Clean every copy; what tells which texts to look for goes last: text sets, then the old batches."""
        sequence = forgetting.sequence
        old = frozenset(name for batch in replaced.batches for name in known.names_of(batch))
        sought = seek_texts(self.store, self.key, known.texts, replaced)
        affected = Affected(old, bool(replaced.text_sets), frozenset(forgetting.texts) - sought.met)
        at_home = clean_home(self.settings, self.store, affected, known.labelers, sought.said)
        in_store = clean_store(self.store, known, replaced, known.labelers, sought, write=True)
        models = trained_on_it(self.settings, self.store, self.tracking_uri, old, replaced.text_sets)
        remaining = where_it_is_left(self.settings, self.store, self.tracking_uri, old, models, replaced)
        remove_old_batches(self.store, known, sequence)
        done = Forgotten(
            at=datetime.now(UTC),
            groups=sum(one.groups for one in replaced.batches.values()),
            labels=sum(one.labels for one in replaced.batches.values()),
            quarantined=in_store.quarantined,
            decisions=in_store.decisions,
            places=sorted([*in_store.places, *at_home.places]),
            models=[str(model) for model in models],
            remaining=sorted({*remaining, *at_home.left}),
        )
        self._create(place(sequence, "done"), done)
        by = {old: one.by for old, one in replaced.batches.items()}
        about = done.model_dump(exclude={"format", "at"})
        return ForgetReport(dry_run=False, sequence=sequence, batches=by, **about)

    def _would(self, found: Found, known: ForgottenList) -> ForgetReport:
        """What a forgetting would do to batches, and whom it would name; nothing is written."""
        old = frozenset(name for batch in found.batches for name in known.names_of(batch))
        models = trained_on_it(self.settings, self.store, self.tracking_uri, old, found.text_sets)
        replaced = Replaced(
            at=datetime.now(UTC),
            batches={
                old: Replacement(by=None, ingested_at=held.manifest.ingested_at, groups=held.groups, labels=held.labels)
                for old, held in found.batches.items()
            },
            checked=[],
            text_sets=list(found.text_sets),
        )
        sought = seek_texts(self.store, self.key, found.marks, replaced)
        in_store = clean_store(self.store, known, replaced, found.labelers, sought, write=False)
        return ForgetReport(
            dry_run=True,
            sequence=None,
            batches=dict.fromkeys(found.batches),
            quarantined=in_store.quarantined,
            decisions=in_store.decisions,
            places=sorted(in_store.places),
            groups=sum(one.groups for one in found.batches.values()),
            labels=sum(one.labels for one in found.batches.values()),
            models=[str(model) for model in models],
            remaining=where_it_is_left(self.settings, self.store, self.tracking_uri, old, models, replaced),
        )

    def _wait_for_runs(
        self, batches: Iterable[str], text_sets: Collection[str], known: ForgottenList, asked: Asked
    ) -> None:
        """Refuse or wait while a run reads what has to go."""
        old = frozenset(name for batch in batches for name in known.names_of(batch))
        told = False
        while True:
            at_work = runs_in_the_way(self.settings, self.store, old, text_sets=bool(text_sets))
            first = next((one for one in at_work if one.run_id not in asked.despite), None)
            if first is None:
                return
            if not asked.wait:
                raise BadInputError(
                    f"run {first.run_id}: is under way by {first.owner} with what is to be forgotten; wait until it is "
                    "over (--wait), or end it. If it is surely not at work any more: "
                    f"--despite {first.run_id}"
                )
            if not told:
                self.say(f"waiting for run {first.run_id}")
                told = True
            self.sleep(self.settings.claims.heartbeat_seconds)

    def _check_key(self) -> None:
        for batch in self.store.batches():
            if batch.labeler_key not in (None, key_fingerprint(self.key)):
                raise BadInputError(
                    f"the labeler key differs from the one of batch {batch.digest[:12]}, so nobody can be found; "
                    "restore that key (REWARDLOOP_LABELER_KEY or the file labeler.key)"
                )

    def _create(self, name: str, content: StoreFile) -> bool:
        return self.store.storage.create(name, (content.model_dump_json(indent=1) + "\n").encode())
