"""KFP's output as something to read: one line per step, a progress line in between, everything in a log file.

KFP's local runner prints the output of its steps among its own messages. ``RunStream`` takes all of it in place of
stdout, keeps it in a file, and shows what a person wants to know.
"""

import io
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from rewardloop.evidence import StepRecord

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '(?P<task>[\w-]+)'")
_FINISHED = re.compile(r"Task '(?P<task>[\w-]+)' finished with status (?P<status>\w+)")
_CACHED = re.compile(r"Task (?P<task>[\w-]+) cache hit")
_PROGRESS = re.compile(r"^(?P<what>[\w .-]+):\s+(?P<percent>\d+)%\|[^|]*\|\s*(?P<rest>.*)$")
_PLAIN_EVERY_SECONDS = 15.0
_BAR = 20


class RunStream(io.TextIOBase):
    """A text stream that logs what it is given to ``log`` and shows a short form on ``terminal``."""

    def __init__(self, log: TextIO, run_dir: Path, terminal: TextIO | None = None) -> None:
        self.log = log
        self.run_dir = run_dir
        self.terminal = terminal or sys.__stdout__ or sys.stdout
        self.live = self.terminal.isatty()
        self._rest = ""
        self._task = ""
        self._progress = ""
        self._started = time.monotonic()
        self._shown = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if self.live:
            threading.Thread(target=self._tick, daemon=True).start()

    def close(self) -> None:
        """Stop showing the time."""
        self._ended.set()
        super().close()

    def writable(self) -> bool:
        """Text may be written."""
        return True

    def write(self, text: str) -> int:
        """Take some output; whole lines are looked at."""
        *lines, self._rest = (self._rest + text.replace("\r", "\n")).split("\n")
        for line in lines:
            clean = _ANSI.sub("", line).rstrip()
            if clean:
                self.log.write(clean + "\n")
                self._look_at(clean)
        self.log.flush()
        return len(text)

    def _look_at(self, line: str) -> None:
        handlers: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], None]], ...] = (
            (_STARTED, self._on_start),
            (_FINISHED, self._on_finish),
            (_CACHED, self._on_cached),
            (_PROGRESS, self._on_progress),
        )
        for pattern, handler in handlers:
            if match := pattern.search(line):
                handler(match)
                return

    def _on_start(self, match: re.Match[str]) -> None:
        self._task, self._progress, self._started = _step(match["task"]), "", time.monotonic()
        self._shown = self._started
        self._show()

    def _on_progress(self, match: re.Match[str]) -> None:
        filled = int(match["percent"]) * _BAR // 100
        bar = "█" * filled + "░" * (_BAR - filled)
        self._progress = f"{match['what'].strip()} {bar} {match['percent']}% {match['rest'].strip()}"
        self._show()
        if not self.live and time.monotonic() - self._shown > _PLAIN_EVERY_SECONDS:
            self._shown = time.monotonic()
            self._line(f"  {self._task}: {self._progress}")

    def _on_cached(self, match: re.Match[str]) -> None:
        self._line(f"  {_step(match['task']):<24} {'cached':>8}")

    def _on_finish(self, match: re.Match[str]) -> None:
        step = _step(match["task"])
        record = read_record(self.run_dir, step)
        if record is None or record.status == "cached":
            return  # a DAG, or a step that did not run
        seconds, self._task = time.monotonic() - self._started, ""
        cause = next(iter((record.error or "").splitlines()), "ended from outside, or out of memory")
        said = record.produced if match["status"] == "SUCCESS" else f"failed: {cause}"
        self._line(f"  {step:<24} {seconds:>6.1f} s  {said}")

    def _tick(self) -> None:
        while not self._ended.wait(0.5):
            self._show()

    def _show(self) -> None:
        """On a terminal: the step at work, for how long, and how far it says it is."""
        if self.live and self._task:
            seconds = time.monotonic() - self._started
            text = f"  {self._task:<24} {seconds:>6.1f} s  {self._progress}"
            width = shutil.get_terminal_size().columns - 1
            with self._lock:
                self.terminal.write(f"\r\x1b[2K{text[:width]}")
                self.terminal.flush()

    def _line(self, text: str) -> None:
        with self._lock:
            self.terminal.write(f"\r\x1b[2K{text}\n" if self.live else f"{text}\n")
            self.terminal.flush()


def read_record(run_dir: Path, step: str) -> StepRecord | None:
    """What a step said of itself in this run."""
    path = run_dir / "steps" / f"{step}.json"
    return StepRecord.model_validate_json(path.read_bytes()) if path.is_file() else None


def _step(task: str) -> str:
    return task.replace("-", "_")
