"""One look of ``rewardloop trigger``: take the inbox, ask whether a run is due, start it.

In: settings and the store. Out: what became of it, and when time alone may change the answer. A watch makes many looks
and remembers between them which files were still growing and which corpus has failed.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rewardloop.cli.cluster_runs import settle, settle_where_asked, standing_on_cluster
from rewardloop.cli.parameters import config_digest
from rewardloop.cli.retraining import absolute, close_cut_short, retrain
from rewardloop.cli.run_result import RunResult
from rewardloop.cli.text_sets import keep_text_sets
from rewardloop.config import LoadedSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.pseudonyms import key_fingerprint, store_key
from rewardloop.feedback.store import Corpus, FeedbackStore
from rewardloop.operation.arrivals import Seen, complete_files
from rewardloop.operation.claims import ClaimState, read_claims
from rewardloop.operation.inbox import InboxReport, open_inbox, take_inbox
from rewardloop.operation.trigger import Due, due_now, standing
from rewardloop.reporting.messages import notify_not_run
from rewardloop.storage import Storage

_Say = Callable[[str], None]


@dataclass(frozen=True)
class Looked:
    """What one look led to."""

    due: Due
    inbox: InboxReport
    again_at: datetime | None
    """When time alone may change the answer; None: only something new can."""
    run: RunResult | None = None


@dataclass
class _Failures:
    """Of one corpus under one configuration."""

    count: int = 0
    wait_until: float = 0.0
    """Monotonic."""


@dataclass
class Looker:
    """Looks, and remembers."""

    loaded: LoadedSettings
    say: _Say
    start: Callable[..., RunResult] = retrain
    clock: Callable[[], float] = time.monotonic
    submits: bool = False
    """``start`` submits to Kubeflow Pipelines, which is asked what became of earlier runs there."""
    _seen: Seen = field(default_factory=Seen)
    _failures: dict[tuple[str, str], _Failures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = self.loaded.settings
        self.store = FeedbackStore.open(absolute(self.settings.store.url))
        url = self.settings.trigger.inbox
        self.inbox = open_inbox(absolute(url)) if url else None

    def look(self, woken: Sequence[str] = ()) -> Looked:
        """Take the inbox, and start a run if one is due."""
        inbox = self.take()
        corpus, config = self._wanted()
        due = self.due(corpus, config)
        self.say(f"{'Due' if due.start else 'Not due'}: {due.reason}")
        run = None
        if not due.start:
            close_cut_short(Path(self.settings.home).resolve(), self._claims())
        if due.start:
            # People want to know who woke it; that a file came is said by the labels.
            reason = "; ".join([due.reason, *filter(None, woken)])
            try:
                run = self.start(self.loaded, reason=reason)
            except Exception as error:
                # MLflow is away, or a setting is wrong: without a pause every look would claim and fail again.
                if self._failed(corpus.digest, config).count == 1:
                    notify_not_run(self.settings.notifications, self.settings.organization, reason, error)
                raise
            self._remember(corpus.digest, config, run)
            due = self.due(*self._wanted())
        return Looked(due, inbox, self._again_at(due, inbox, run), run)

    def take(self) -> InboxReport:
        """Ingest what is complete in the inbox; nothing where there is none.

        Raises:
            BadInputError: no file could be ingested, whatever it held.
        """
        if self.inbox is None or not self.complete():
            return InboxReport(waiting=tuple(self._seen.since))
        key = store_key(self.settings.home)
        self._check(key)

        def ingest_one(paths: list[Path]) -> IngestReport:
            return ingest(paths, self.store, self.settings, key=key)

        return take_inbox(
            self.inbox,
            ingest_one,
            stable_seconds=self.settings.trigger.stable_seconds,
            seen=self._seen,
            say=lambda line: self.say(f"inbox: {line}"),
        )

    def complete(self) -> list[str]:
        """Names of the files in the inbox that would be taken."""
        return list(self._arrived()[0])

    def growing(self) -> list[str]:
        """Names of the files in the inbox that may not be complete."""
        return list(self._arrived()[1])

    def due(self, corpus: Corpus | None = None, config: str | None = None) -> Due:
        """Whether a run of the current corpus is due."""
        if corpus is None or config is None:
            corpus, config = self._wanted()
        if not corpus.batches:
            return Due(False, f"no feedback in {self.settings.store.url} yet")
        failed = self._failures.get((corpus.digest, config))
        if failed is not None and failed.wait_until > self.clock():
            at = datetime.now(UTC) + timedelta(seconds=failed.wait_until - self.clock())
            times = "once" if failed.count == 1 else f"{failed.count} times"
            return Due(False, f"the run of this corpus failed {times}; it is tried again at {at:%H:%M:%S} UTC", at)
        if self.submits:
            there = self._on_cluster(corpus.digest, config)
            if there:
                return there
        claims = self._claims()
        if not self.submits and settle_where_asked(self.settings, self.store.storage, claims):
            claims = self._claims()
        soon = datetime.now(UTC) + timedelta(seconds=self.settings.trigger.poll_seconds)
        claimed = standing(claims, corpus.digest, config, soon)
        return claimed or due_now(self.settings, self.store, claims, corpus, config, datetime.now(UTC))

    def _on_cluster(self, corpus: str, config: str) -> Due | None:
        from rewardloop.cli.cluster_runs import served_tracking_uri
        from rewardloop.cli.kubeflow import Kubeflow

        kubeflow = Kubeflow.connect(timeout_seconds=self.settings.tracking.timeout_seconds)
        settle(self.settings, self.store.storage, kubeflow, served_tracking_uri(self.settings))
        return standing_on_cluster(self.settings, kubeflow, self._claims(), corpus, config)

    def _claims(self) -> list[ClaimState]:
        return read_claims(self.store.storage, lease_seconds=self.settings.claims.lease_seconds)

    def _arrived(self) -> tuple[Iterable[str], Iterable[str]]:
        if self.inbox is None:
            return (), ()
        return complete_files(self.inbox, self.settings.trigger.stable_seconds, self._seen)

    def _wanted(self) -> tuple[Corpus, str]:
        corpus = self.store.current_corpus(self.settings.corpus)
        # Their digests are wanted, and a run keeps the texts itself: a look writes nothing but batches.
        text_sets = keep_text_sets(self.settings, Storage.open("memory://looking"))
        return corpus, config_digest(self.loaded, text_sets)

    def _check(self, key: bytes) -> None:
        """What is wrong with the configuration must not count against the files, which would all be rejected."""
        self.store.check_splits(self.settings.splits)
        for batch in self.store.batches():
            if batch.labeler_key not in (None, key_fingerprint(key)):
                raise BadInputError(
                    f"trigger.inbox: nothing can be taken: the labeler key differs from the one of batch "
                    f"{batch.digest[:12]}; restore that key (REWARDLOOP_LABELER_KEY or the file labeler.key)"
                )

    def _remember(self, corpus: str, config: str, run: RunResult) -> None:
        """A corpus whose run failed waits longer each time; a new one is tried at once."""
        if run.kind != "failed":
            self._failures.pop((corpus, config), None)
            return
        self._failed(corpus, config)

    def _failed(self, corpus: str, config: str) -> _Failures:
        """Count one failure more."""
        failed = self._failures.setdefault((corpus, config), _Failures())
        failed.count += 1
        seconds = self.settings.trigger.retry_failed_seconds * 2 ** (failed.count - 1)
        failed.wait_until = self.clock() + seconds
        return failed

    def _again_at(self, due: Due, inbox: InboxReport, run: RunResult | None) -> datetime | None:
        now, policy = datetime.now(UTC), self.settings.trigger
        moments = [due.again_at] if due.again_at else []
        if due.start or (run is not None and run.kind in ("claimed elsewhere", "submitted")):
            moments.append(now + timedelta(seconds=policy.poll_seconds))
        if inbox.waiting:
            moments.append(now + timedelta(seconds=policy.stable_seconds))
        if inbox.troubled:
            moments.append(now + timedelta(seconds=policy.poll_seconds))
        return min(moments, default=None)
