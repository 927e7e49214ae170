"""Decisions kept in the store: what drift is measured on, and where new labeling tasks come from.

In: rows that were decided. Out: ``decisions/<date>/<time>-<host>-<random>.jsonl`` of ``DecisionRecord`` lines, each
file written whole. A request neither waits nor fails for it: what does not fit into the buffer is dropped and counted.
"""

import hashlib
import logging
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rewardloop.config import DecisionLogSettings
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.modeling.scoring import Messages
from rewardloop.records import normalize_text, prompt_key, text_digest
from rewardloop.storage import Storage

_log = logging.getLogger(__name__)
_FILES_BUFFERED = 10
"""Files' worth of rows that are kept while the store does not answer."""


@dataclass(frozen=True)
class Decided:
    """One row as the server knows it."""

    at: float
    """Seconds since the epoch."""
    request_id: str
    model_version: str
    segment: str | None
    user: str | None
    """As the caller named it; it is never written."""
    prompt: Messages
    response: str
    score: float | None
    decision: str | None
    threshold: float | None


class DecisionLog:
    """Buffers sampled rows and writes them from a thread of its own."""

    def __init__(
        self,
        storage: Storage,
        settings: DecisionLogSettings,
        key: bytes,
        *,
        count: Callable[[str, int], object] = lambda outcome, rows: None,
    ) -> None:
        """Prepare.

        Args:
            storage: the feedback store.
            settings: share, texts, and the size and age of a file.
            key: of pseudonyms.
            count: told of rows that were ``written`` or ``dropped``.
        """
        self._storage = storage
        self._settings = settings
        self._key = key
        self._count = count
        self._host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
        self._rows: deque[Decided] = deque()
        self._dropped = 0
        self._oldest = 0.0
        self._stopped = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start writing."""
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="decision-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, once, and stop."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def wants(self, request_id: str) -> bool:
        """Whether this request is in the sample; the same id is in it or not, wherever it is asked."""
        share = int(hashlib.sha256(request_id.encode()).hexdigest()[:13], 16) / 16**13
        return share < self._settings.sample

    def add(self, rows: Sequence[Decided]) -> None:
        """Keep rows; what does not fit is dropped and counted. Never waits for the store."""
        with self._changed:
            # What a failed write put back may already be more than fits.
            room = max(0, _FILES_BUFFERED * self._settings.rows_per_file - len(self._rows))
            if not self._rows:
                self._oldest = time.monotonic()
            self._rows.extend(rows[:room])
            lost = max(0, len(rows) - room)
            self._dropped += lost
            if len(self._rows) >= self._settings.rows_per_file or len(self._rows) == len(rows):
                self._changed.notify()
        if lost:
            self._count("dropped", lost)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not (self._stopped or self._due()):
                    self._changed.wait(self._patience())
                if not (self._stopped or self._due()):
                    continue
                rows = [self._rows.popleft() for _ in range(min(len(self._rows), self._settings.rows_per_file))]
                self._oldest = time.monotonic()
                dropped, self._dropped = self._dropped, 0
                last = self._stopped and not self._rows
            if dropped:
                _log.warning("decision log: %d rows were dropped, because the store is too slow or away", dropped)
            if rows and not self._write(rows):
                self._keep(rows)
                if self._stopped:
                    self._give_up()
                    return
                time.sleep(1)
            elif last:
                return

    def _due(self) -> bool:
        full = len(self._rows) >= self._settings.rows_per_file
        return full or bool(self._rows and time.monotonic() - self._oldest >= self._settings.seconds_per_file)

    def _patience(self) -> float | None:
        if not self._rows:
            return None
        return max(0.0, self._settings.seconds_per_file - (time.monotonic() - self._oldest))

    def _keep(self, rows: list[Decided]) -> None:
        with self._changed:
            self._rows.extendleft(reversed(rows))
            self._oldest = time.monotonic() - self._settings.seconds_per_file

    def _give_up(self) -> None:
        _log.error("decision log: %d rows were not written at the end", len(self._rows))
        self._count("dropped", len(self._rows))

    def _write(self, rows: list[Decided]) -> bool:
        try:
            lines = "".join(self._record(row).model_dump_json() + "\n" for row in rows)
            first = datetime.fromtimestamp(rows[0].at, UTC)
            name = f"{first:%Y%m%dT%H%M%S}.{first.microsecond:06d}Z-{self._host}-{secrets.token_hex(4)}.jsonl"
            # The name is nobody else's, so no conditional create is needed, which some stores cannot do.
            self._storage.write(f"decisions/{first:%Y-%m-%d}/{name}", lines.encode())
        except Exception as error:  # whatever a driver raises: serving goes on without its log
            _log.warning("decision log: %d rows cannot be written yet: %s", len(rows), error)
            return False
        self._count("written", len(rows))
        return True

    def _record(self, row: Decided) -> DecisionRecord:
        prompt = [dict(message) for message in row.prompt]
        return DecisionRecord(
            at=datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds"),
            request_id=row.request_id,
            model_version=row.model_version,
            segment=row.segment,
            user=None if row.user is None else pseudonym(self._key, row.user),
            prompt=prompt if self._settings.texts else None,
            response=row.response if self._settings.texts else None,
            prompt_hash=prompt_key((turn["role"], turn["content"]) for turn in prompt),
            response_hash=text_digest(normalize_text(row.response)),
            prompt_characters=sum(len(turn["content"]) for turn in prompt),
            response_characters=len(row.response),
            score=row.score,
            decision=row.decision,  # type: ignore[arg-type]
            threshold=row.threshold,
        )
