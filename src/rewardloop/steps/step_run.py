"""What every step does around its own work: hand evidence on, and say how it went.

KFP loses exit codes, causes and what a cached step had to say. So each step copies the evidence of its inputs beside
its own output, and into the folder of the run (``REWARDLOOP_RUN_DIR``, set by whoever starts the run), together with a
``StepRecord``. A step that KFP takes from its cache does not run at all; its record arrives with the first later step
that reads its output.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rewardloop.errors import RewardloopError, disk_error
from rewardloop.evidence import Evidence, StepRecord
from rewardloop.logs import set_up_logging
from rewardloop.steps.resources import ResourceMeter

_log = logging.getLogger("rewardloop.steps")

RUN_DIR = "REWARDLOOP_RUN_DIR"
_HOME, _CLUSTER_RUN = "REWARDLOOP_HOME", "KFP_RUN_ID"

_SAID = {"seconds", "startup_seconds", "cpu_seconds", "peak_memory_bytes", "peak_gpu_memory_bytes", "exit_code"}
"""Figures of a step's record that are fields of its last log line."""


def run_folder() -> Path | None:
    """Folder of the current run, or None when a step is called outside one.

    On a cluster no command line names it: there it lies in the volume that all steps share, under the cluster's run.
    """
    value, home, run = (os.environ.get(name) for name in (RUN_DIR, _HOME, _CLUSTER_RUN))
    if value:
        return Path(value)
    return Path(home) / "runs" / run if home and run else None


def place_of(artifact: Any) -> Path | None:
    """Where an optional artifact lies; None where the graph gives none."""
    return None if artifact is None else Path(artifact.path)


@dataclass
class StepRun:
    """What the body of a step may say: ``produced`` is one short line for people."""

    step: str
    folders: tuple[Path, ...]
    produced: str = ""

    def write(self, name: str, evidence: Evidence) -> None:
        """Write ``evidence/<name>.json`` beside the step's output and into the run's folder."""
        for folder in self.folders:
            _write(folder / "evidence" / f"{name}.json", evidence.model_dump_json(indent=1))

    def log(
        self,
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        tables: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
    ) -> None:
        """Log to MLflow, as a nested run of the pipeline's run; outside a pipeline run nothing is logged.

        Args:
            metrics: name -> value.
            curves: name -> (optimizer step, value) points.
            tables: name -> rows, shown by MLflow as a table.
        """
        # Importing MLflow takes a second, which most steps need not pay.
        from rewardloop.tracking.runs import current_run, log_step

        if current := current_run():
            uri, parent = current
            log_step(uri, parent, self.step, metrics=metrics, curves=curves, tables=tables)


@contextmanager
def step_run(step: str, *, inputs: Sequence[Path] = (), output: Path | None = None) -> Iterator[StepRun]:
    """Record one step: status, time, processor and memory it took, what it produced or why it failed.

    Args:
        step: the step's name, the same as its file, function and component.
        inputs: artifact folders whose evidence is handed on.
        output: the step's main artifact folder; created when absent.

    Raises:
        BadInputError: the disk is full or read-only (an OSError of that kind in the body).
    """
    folders = tuple(folder for folder in (output, run_folder()) if folder is not None)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for source in inputs:
            _hand_on(source, folder, cached=folder != output)
    run = StepRun(step=step, folders=folders)
    record = StepRecord(step=step, status="running", started_at=datetime.now(UTC).isoformat(timespec="seconds"))
    set_up_logging(step=step)
    meter, started = ResourceMeter(), time.monotonic()

    def close(**fields: object) -> None:
        seconds = round(time.monotonic() - started, 3)
        used = {"seconds": seconds, "produced": run.produced, **meter.fields()}
        done = record.model_copy(update=used | fields)
        for folder in folders:
            _write(folder / "steps" / f"{step}.json", done.model_dump_json(indent=1))
        _say(done)

    close(status="running", seconds=None)
    try:
        yield run
    except RewardloopError as error:
        close(status="failed", error=str(error), exit_code=error.exit_code)
        raise
    except OSError as error:
        clear = disk_error(error)
        if clear is None:
            close(status="failed", error=f"{type(error).__name__}: {error}", exit_code=1)
            raise
        close(status="failed", error=str(clear), exit_code=clear.exit_code)
        raise clear from error
    except BaseException as error:
        close(status="failed", error=f"{type(error).__name__}: {error}", exit_code=1)
        raise
    else:
        close(status="finished")
    finally:
        meter.stop()


def _say(record: StepRecord) -> None:
    """One line in the log, with the record's figures as fields where lines are JSON."""
    if record.status == "running":
        _log.info("%s started", record.step)
        return
    fields = record.model_dump(include=_SAID, exclude_none=True)
    if record.status == "failed":
        _log.error("%s failed: %s", record.step, record.error, extra={"fields": fields})
    else:
        _log.info("%s finished: %s", record.step, record.produced or "done", extra={"fields": fields})


def _hand_on(source: Path, target: Path, *, cached: bool) -> None:
    for path in sorted((source / "evidence").glob("*.json")):
        (target / "evidence").mkdir(exist_ok=True)
        shutil.copyfile(path, target / "evidence" / path.name)
    for path in sorted((source / "steps").glob("*.json")):
        place = target / "steps" / path.name
        if cached and place.exists():
            continue  # this run did that step itself
        record = StepRecord.model_validate_json(path.read_bytes())
        _write(place, record.model_copy(update={"status": "cached"} if cached else {}).model_dump_json(indent=1))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        # A full disk must not hide the failure that is being recorded.
        temporary.unlink(missing_ok=True)
        if '"failed"' not in text:
            raise
