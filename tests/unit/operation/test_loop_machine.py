"""The loop as a state machine: whatever people and machines do in whatever order, and wherever they are killed.

Batches, decisions, claims, history, aliases and housekeeping are the real ones, on real files and a real SQLite MLflow;
only the training is left out: a run registers a version that has tags and no files.
"""

import contextlib
import itertools
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mlflow import MlflowClient

from rewardloop.config import Settings
from rewardloop.errors import BadInputError, NotBlessedError
from rewardloop.evidence import Check
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claims import ClaimOutcome, ClaimState, Wanted, read_claims, take
from rewardloop.operation.housekeeping import plan, remove
from rewardloop.operation.processes import Owner, this_owner
from rewardloop.preferences.splits import place_rows
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History, HistoryRecord, champions
from rewardloop.tracking.own_promotion import RUN_TAG
from rewardloop.tracking.projection import project
from rewardloop.tracking.promotion import not_waiting, promote, rollback
from rewardloop.tracking.quick_look import tags_of
from rewardloop.tracking.registry import find, versions
from tests.unit.tracking.versions import aliases, plant

KEY = b"a labeler key of the tests"
CONFIGURATIONS = ("c0", "c1", "c2", "c3", "c4")
_NUMBERS = itertools.count()


class KilledError(BaseException):
    """The process ended here; no handler of ordinary errors may go on."""


@dataclass(frozen=True)
class MortalStorage(Storage):
    """A store whose process is killed before (or after) a number of writes; afterwards it does nothing at all."""

    fuse: list[int] = field(default_factory=list)

    def write(self, name: str, data: bytes, *, mode: int | None = None) -> None:
        self._burn()
        super().write(name, data, mode=mode)
        self._burn()

    def create(self, name: str, data: bytes, *, mode: int | None = None) -> bool:
        self._burn()
        made = super().create(name, data, mode=mode)
        self._burn()
        return made

    def _burn(self) -> None:
        if self.fuse:
            self.fuse[0] -= 1
            if self.fuse[0] < 0:
                raise KilledError


@cache
def tracking_uri() -> str:
    return connect(None, Path(tempfile.mkdtemp(prefix="machine-")), 20)


def dead_owner() -> Owner:
    """Somebody of this machine who is no more: the start of this very process, under another clock."""
    return this_owner().model_copy(update={"started": "before this process"})


def no_worse(name: str, candidate: str, champion: str) -> list[Check]:
    mine, theirs = (int((tags_of(name, version, tracking_uri()) or {})["quality"]) for version in (candidate, champion))
    passed = mine >= theirs
    return [Check(name="golden", passed=passed, value=None, limit=None, rule="", reason=f"{mine} against {theirs}.")]


class Loop(RuleBasedStateMachine):
    """Rules act as people and triggers do; invariants are those of the design."""

    @initialize(candidates=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=3, max_size=4))
    def begin(self, candidates: list[tuple[int, bool]]) -> None:
        """A store with a batch and the versions that earlier configurations made of it."""
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.settings = Settings.model_validate(
            {
                "organization": f"m{next(_NUMBERS)}",
                "model": {"base": "random:tiny"},
                "splits": {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2, "golden": 0.3},
                "validation": {"max_failed_share": 0.9},
                "housekeeping": {"keep_versions": 1},
                "home": str(self.folder / "home"),
            }
        )
        self.name = self.settings.model_name
        self.url = str(self.folder / "store")
        self.store = FeedbackStore.open(self.url)
        self.history = History(self.store.storage, self.name)
        self.batches: dict[str, int] = {}
        self.golden: set[str] = set()
        self.placed: set[str] = set()
        """Batches whose documents were checked against these golden ones."""
        self.records: list[HistoryRecord] = []
        self.run_of: dict[tuple[str, str, int], str] = {}
        self.finished: set[tuple[str, str]] = set()
        self.planted: dict[str, dict[str, str]] = {}
        self.ingest(first=0, count=8, bad=1, fuse=None)
        for number, (quality, blessed) in enumerate(candidates):
            # The first becomes the champion, the others wait for a person.
            self.run(f"f{number}", quality, blessed, approval=number > 0, again=False, fuse=None)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # Feedback --------------------------------------------------------------------------------------------------------
    @rule(first=st.integers(0, 12), count=st.integers(1, 8), bad=st.integers(0, 2), fuse=st.none() | st.integers(0, 12))
    def ingest(self, first: int, count: int, bad: int, fuse: int | None) -> None:
        """A file of texts, some of which may have come before; killed or not, and then once more."""
        path = self.folder / f"{first}-{count}-{bad}.csv"
        good = "".join(f"text {number},anna,{number % 5}\n" for number in range(first, first + count))
        path.write_text("text,labeler,score\n" + good + "".join(f"bad {row},anna,much\n" for row in range(bad)))
        if fuse is not None:
            store = FeedbackStore(self.mortal(fuse))
            try:
                self.take_in(path, store)
            except KilledError:
                # Half a batch is no batch: a manifest that is there has all of its records.
                for batch in self.store.batches():
                    self.batches.setdefault(batch.digest, len(self.store.read_batch(batch.digest)))
        self.take_in(path, self.store)
        self.take_in(path, self.store, new=False)

    def take_in(self, path: Path, store: FeedbackStore, *, new: bool = True) -> None:
        try:
            report = ingest([path], store, self.settings, key=KEY)
        except BadInputError as error:
            # What validation refused does not come in by being sent again.
            if "refused" not in str(error):
                raise
            assert {batch for batch in self.batches if self.store.refusal(batch) and not self.store.accepted_by(batch)}
            return
        assert new or report.digest is None
        counted = report.rows_taken + report.rows_quarantined + report.rows_duplicate + sum(report.skipped.values())
        assert report.rows_in == counted
        if report.digest:
            self.batches.setdefault(report.digest, report.groups)

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0, 99), accept=st.booleans())
    def refuse(self, which: int, accept: bool) -> None:
        """Validation refuses a batch; perhaps somebody takes it in all the same."""
        digest = sorted(self.batches)[which % len(self.batches)]
        self.store.refuse(digest, ["all ties"])
        if accept:
            self.store.accept(digest, by="lead", reason="checked by hand")

    # Runs ------------------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.batches)
    @rule(
        config=st.sampled_from(CONFIGURATIONS),
        quality=st.integers(0, 3),
        blessed=st.booleans(),
        approval=st.booleans(),
        again=st.booleans(),
        fuse=st.none() | st.integers(0, 9),
    )
    def run(self, config: str, quality: int, blessed: bool, approval: bool, again: bool, fuse: int | None) -> None:
        """A trigger fires; the process that answers is killed at any of its writes, or lives."""
        corpus = self.store.current_corpus()
        if not corpus.batches:
            return
        key = (corpus.digest, config)
        owner = this_owner() if fuse is None else dead_owner()
        wanted = Wanted(corpus.digest, config, f"run-{next(_NUMBERS)}", "fired", "on purpose" if again else None)
        with patch("rewardloop.operation.claims.this_owner", lambda: owner):
            try:
                self.train(
                    self.store.storage if fuse is None else self.mortal(fuse), wanted, quality, blessed, approval
                )
            except KilledError:
                self.finished |= {
                    (claim.corpus, claim.config) for claim in read_claims(self.store.storage) if claim.outcome
                }
                return
        assert key in self.finished

    def train(self, storage: Storage, wanted: Wanted, quality: int, blessed: bool, approval: bool) -> None:
        key = (wanted.corpus, wanted.config)
        claim = take(storage, self.settings.claims, wanted)
        if isinstance(claim, ClaimState):
            assert claim.state == "finished"
            assert wanted.again is None
            assert key in self.finished
            return
        open_again = claim.stem != f"{wanted.corpus}-{wanted.config}"
        assert open_again or key not in self.finished, "trained twice"
        [begun] = [one for one in read_claims(storage) if one.stem == claim.stem]
        assert claim.attempt.run_id == begun.run_id, "resumed under another id"
        assert claim.beat()
        version = self.register(claim.attempt.run_id, quality, blessed)
        if not approval and self.planted[version].get("blessed") == "true":
            self.promoted(version, storage=storage)
        claim.close(ClaimOutcome(status="blessed", finished_at=datetime.now(UTC), report="r", run_id="r"))
        self.finished.add(key)
        claim.beat(ended=True)

    def register(self, run_id: str, quality: int, blessed: bool) -> str:
        """As the step does: what this run registered before it was killed is found again."""
        found = find(self.name, {RUN_TAG: run_id}, tracking_uri())
        if found:
            return found
        champion = self.history.champion()
        against = champion.version if champion else "none"
        tags = {RUN_TAG: run_id, "quality": str(quality)}
        version = plant(tracking_uri(), self.name, blessed=blessed, against=against, **tags)
        self.planted[version] = self.tags(version)
        return version

    # Champions -------------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.known())
    @rule(which=st.integers(0, 99), force=st.sampled_from([False, False, True]), fuse=st.none() | st.integers(0, 1))
    def promote(self, which: int, force: bool, fuse: int | None) -> None:
        """Somebody promotes a version, by force or not, and is killed or not."""
        version = self.known()[which % len(self.known())]
        with contextlib.suppress(KilledError):
            self.promoted(version, storage=self.store.storage if fuse is None else self.mortal(fuse), force=force)

    @rule()
    def challenge(self) -> None:
        """The worst of all blessed versions is put forward."""
        blessed = [one for one in self.known() if self.planted[one].get("blessed") == "true"]
        if blessed:
            self.promoted(min(blessed, key=lambda one: int(self.planted[one]["quality"])), storage=self.store.storage)

    def promoted(self, version: str, *, storage: Storage, force: bool = False) -> None:
        """Promote it; refused is what was not blessed, or what is worse than a champion it was not blessed against."""
        before, tags = self.history.champion(), self.tags(version)
        against = before.version if before else "none"
        fine = tags.get("blessed") == "true" and (
            against in (version, tags["blessed_against"])
            or before is None
            or no_worse(self.name, version, against)[0].passed
        )
        with patch.object(Storage, "open", classmethod(lambda cls, url: storage)):
            try:
                record = promote(
                    self.name,
                    version,
                    store=self.url,
                    tracking_uri=tracking_uri(),
                    who="ann",
                    why="a test",
                    compare=lambda mine, theirs: no_worse(self.name, mine, theirs),
                    force="for the test" if force else None,
                )
            except NotBlessedError:
                assert not force
                assert not fine
                return
        assert fine or force
        assert record.version == version
        assert self.history.champion() == record

    @rule()
    def rollback(self) -> None:
        """Back to the champion before, or a refusal that changes nothing."""
        stack = champions(self.history.records())
        try:
            record = rollback(self.name, store=self.url, tracking_uri=tracking_uri(), who="bea", why="complaints")
        except BadInputError:
            assert len(stack) < 2 or stack[-2].version not in self.known()
            return
        assert record.version == stack[-2].version

    @precondition(lambda self: self.history.records())
    @rule()
    def look(self) -> None:
        """Whoever reads the aliases repairs them first."""
        project(self.name, self.store.storage, tracking_uri())
        stack = champions(self.history.records())
        previous = stack[-2].version if len(stack) > 1 else None
        wanted = {"champion": stack[-1].version} | ({"previous": previous} if previous in self.known() else {})
        assert aliases(tracking_uri(), self.name) == wanted

    @rule()
    def gc(self) -> None:
        """Housekeeping takes versions that nobody needs, and nothing else."""
        records, store = self.history.records(), self.files()
        unfinished = {claim.run_id for claim in read_claims(self.store.storage) if not claim.outcome}
        before = self.known()
        assert set(before) <= set(self.planted)
        waiting = [
            one for one in before if self.planted[one].get("blessed") == "true" and not_waiting(one, records) is None
        ]
        with patch("rewardloop.operation.old_versions._GRACE_SECONDS", 0):
            found = plan(self.settings, self.store.storage, tracking_uri())
            assert found.blocked is None
            remove(found, self.settings, self.store.storage, tracking_uri())
        kept = set(self.known())
        assert self.files() == store
        assert set(waiting) | set(before[-1:]) <= kept
        assert {one for one in before if self.planted[one][RUN_TAG] in unfinished} <= kept
        stack = champions(records)
        assert {record.version for record in stack[-2:]} & set(before) <= kept

    # What always holds -----------------------------------------------------------------------------------------------
    @invariant()
    def the_history_is_a_chain(self) -> None:
        records = self.history.records()
        assert records[: len(self.records)] == self.records, "a record was altered or lost"
        self.records = records
        assert [record.sequence for record in records] == list(range(1, len(records) + 1))
        before = [None, *(record.version for record in records)]
        assert [record.previous for record in records] == before[:-1]
        for record in records:
            tags = self.planted[record.version]
            assert record.forced or record.action == "rollback" or tags.get("blessed") == "true"
            assert record.threshold == float(tags["threshold"]), "the threshold moves with the version"

    @invariant()
    def no_batch_disappears(self) -> None:
        assert {batch.digest for batch in self.store.batches()} == set(self.batches)
        assert all(batch.rows_taken for batch in self.store.batches())

    @invariant()
    def golden_documents_stay_golden_and_are_never_trained_on(self) -> None:
        golden = self.store.golden_documents()
        assert golden >= self.golden
        for digest in set(self.batches) - (self.placed if golden == self.golden else set()):
            placed = place_rows(
                self.store.read_batch(digest).with_columns(batch=pl.lit(digest)),
                self.settings.splits,
                frozenset(golden),
            )
            inside = placed.filter(placed["document"].is_in(list(golden)))
            assert set(inside["split"]) <= {"golden"}
        self.golden, self.placed = golden, set(self.batches)

    @invariant()
    def a_run_is_one_run(self) -> None:
        claims = read_claims(self.store.storage)
        for claim in claims:
            first = self.run_of.setdefault((claim.corpus, claim.config, claim.number), claim.run_id)
            assert claim.run_id == first, "resumed under another id"
        per_run = Counter(tags[RUN_TAG] for tags in self.planted.values())
        assert all(count == 1 for count in per_run.values()), "two versions of one run"
        assert {(claim.corpus, claim.config) for claim in claims if claim.outcome} == self.finished

    @invariant()
    def nothing_is_half_written(self) -> None:
        assert not list(self.folder.rglob(".tmp-*"))

    # Short ways ------------------------------------------------------------------------------------------------------
    def mortal(self, fuse: int) -> MortalStorage:
        whole = self.store.storage
        return MortalStorage(whole.url, whole.fs, whole.root, [fuse])

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in Path(self.url).rglob("*") if path.is_file()}

    def known(self) -> list[str]:
        found = versions(MlflowClient(tracking_uri=tracking_uri()), self.name)
        return sorted((str(one.version) for one in found), key=int)

    def tags(self, version: str) -> dict[str, str]:
        return dict(tags_of(self.name, version, tracking_uri()) or {})


Loop.TestCase.settings = settings(
    max_examples=16,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    # A failing sequence is short as it is, and shrinking it takes minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLoop = pytest.mark.timeout(900)(Loop.TestCase)
