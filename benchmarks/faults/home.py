"""A place with a store, runs and an MLflow of its own, and the commands in it, killed or not.

In: a folder, and moments. Out: processes of the real command line, killed with SIGKILL when their moment has come.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.faults.moments import INGEST, Moment, stage_of_run

CONFIG = Path("conf/smoke.yaml").resolve()
ORGANIZATION = "smoke"
BATCH = "batch.csv"
_LOOK_EVERY_SECONDS = 0.01
_LONGEST_SECONDS = 3600.0
_OF_OTHERS = ("REWARDLOOP_HOME", "REWARDLOOP_RUN_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")
_WORDS = ("film", "story", "music", "light", "scene", "voice", "end", "cast")

Probe = Callable[[], str]
"""Says in which stage a command is."""


class UnfinishedError(Exception):
    """A command that was not killed did not end as it should."""


@dataclass
class Home:
    """One place. ``killed`` has the stage of each kill."""

    folder: Path
    order: Sequence[str]
    """All stages."""
    seconds: Mapping[str, float]
    """How long each stage takes."""
    overrides: tuple[str, ...] = ()
    killed: list[str] = field(default_factory=list)
    _attempts: int = 0

    @property
    def inside(self) -> Path:
        """What rewardloop writes to."""
        return self.folder / ".rewardloop"

    @property
    def store(self) -> Path:
        """The feedback store."""
        return self.inside / "store"

    @property
    def tracking_uri(self) -> str:
        """MLflow's."""
        return f"sqlite:///{self.inside / 'mlflow.db'}"

    def prepare(self, texts: int) -> None:
        """An empty place with a file to ingest, the same in every home."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "conf").mkdir(parents=True)
        # The configuration names its prompts from where the command is run.
        shutil.copy(CONFIG.with_name("smoke-prompts.jsonl"), self.folder / "conf")
        write_ratings(self.folder / BATCH, texts)

    def command(self, name: str, *arguments: str) -> list[str]:
        """The command line of ``rewardloop NAME`` here."""
        return [sys.executable, "-m", "rewardloop.cli.main", name, *arguments, *self.overrides]

    def finish(self, command: list[str], probe: Probe, accept: str = "") -> tuple[str, dict[str, float]]:
        """Run a command to its end.

        Args:
            command: its command line.
            probe: says the stage.
            accept: words of a refusal that is as good as success.

        Returns:
            what it said, and when it was first seen in each stage, its end last.

        Raises:
            UnfinishedError: it failed.
        """
        with self._started(command) as (process, log):
            entered = self._watch(process, probe, None)
        said = log.read_text()
        if process.returncode != 0 and not (accept and accept in said):
            raise UnfinishedError(f"{' '.join(command[3:])} ended with {process.returncode}: {said[-2000:]}")
        return said, entered

    def kill(self, command: list[str], probe: Probe, moment: Moment) -> bool:
        """Start a command and kill it at ``moment``; False where it ended before."""
        with self._started(command) as (process, _):
            before = len(self.killed)
            self._watch(process, probe, moment)
        return len(self.killed) > before

    def ingesting(self) -> Probe:
        """Stage of the ``rewardloop ingest`` that begins now."""
        before = self._written()
        return lambda: INGEST[self._written() != before]

    def running(self) -> Probe:
        """Stage of the attempt at a run that begins now."""
        logs = list(self.inside.glob("runs/*/log.txt"))
        at = logs[0].stat().st_size if logs else 0
        said = ""

        def stage() -> str:
            nonlocal logs, at, said
            logs = logs or list(self.inside.glob("runs/*/log.txt"))
            if logs and logs[0].stat().st_size > at:
                with logs[0].open("rb") as stream:
                    stream.seek(at)
                    new = stream.read()
                at += len(new)
                # What steps print is of no interest, and long.
                lines = new.decode(errors="replace").splitlines(keepends=True)
                said += "".join(line for line in lines if not line.startswith(" "))
            return stage_of_run(said, promoted=self.decided(1))

        return stage

    def deciding(self, name: str, number: int) -> Probe:
        """Stage of ``rewardloop promote`` or ``rollback``, whose record is the reward model's ``number``-th."""
        later = f"{name}_aliases"
        return lambda: later if later in self.order and self.decided(number) else name

    def decided(self, number: int) -> bool:
        """Whether the history has so many records of the reward model; those of a policy stand between them."""
        records = (path.read_text(encoding="utf-8") for path in (self.store / "history").glob("[0-9]*.json"))
        return sum(f'"{ORGANIZATION}-reward"' in record for record in records) >= number

    def _written(self) -> dict[Path, int]:
        """When each file of the store was written."""
        found = {}
        for path in self.store.rglob("*"):
            with suppress(FileNotFoundError):  # a temporary file has its name for a moment only
                found[path] = path.stat().st_mtime_ns
        return found

    @contextmanager
    def _started(self, command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        self._attempts += 1
        log = self.folder / f"attempt-{self._attempts:02d}.log"
        kept = {name: value for name, value in os.environ.items() if name not in _OF_OTHERS}
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603
                command,
                cwd=self.folder,
                env=kept | {"COLUMNS": "200", "REWARDLOOP_CONFIG": str(CONFIG), "PYTHONSAFEPATH": "1"},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process, log
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _watch(self, process: subprocess.Popen[bytes], probe: Probe, moment: Moment | None) -> dict[str, float]:
        """Until the process has ended, or has been killed at ``moment``; when it was first seen in each stage."""
        started = time.monotonic()
        due, entered = float("inf"), {probe(): started}
        while process.poll() is None:
            now, stage = time.monotonic(), probe()
            entered.setdefault(stage, now)
            if moment and due == float("inf") and self.order.index(stage) >= self.order.index(moment.stage):
                due = now + moment.share * self.seconds[moment.stage]
            if moment and now >= due:
                (os.killpg if moment.whole_group else os.kill)(process.pid, signal.SIGKILL)
                if process.wait() == -signal.SIGKILL:
                    self.killed.append(stage)
                break
            if now - started > _LONGEST_SECONDS:
                raise UnfinishedError(f"{process.args!r} still runs after {_LONGEST_SECONDS:g} s")
            time.sleep(_LOOK_EVERY_SECONDS)
        entered["end"] = time.monotonic()
        return entered


def write_ratings(path: Path, texts: int, seed: int = 1) -> None:
    """Texts with five ratings each; the more often one says "good" instead of "bad", the better it is rated."""
    random = np.random.default_rng(seed)
    lines = ["id,text,ratings"]
    for number in range(texts):
        quality = int(random.integers(-3, 4))
        words = ["good" if quality > 0 else "bad"] * abs(quality) + list(random.choice(_WORDS, 4))
        ratings = np.clip(np.round(quality + random.normal(0, 0.7, 5)), -4, 4).astype(int)
        listed = ", ".join(map(str, ratings))
        lines.append(f'{seed}-{number},{" ".join(random.permutation(words))} {number},"[{listed}]"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
