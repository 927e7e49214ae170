"""Which process owns a run, whether it still exists, and the end of steps that it left behind.

In: pids, and the start of a process, since pids are used again. Out: an ``Owner`` that names one process among all
machines; whether it is gone; orphans ended.
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

RUN_DIR = "REWARDLOOP_RUN_DIR"
_ROUNDS = 5
_SECONDS_TO_END = 5.0


class Owner(BaseModel):
    """One process, once: a second run of the same process is another owner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    host: str
    place: str
    """Where pids mean the same: machine, its start and its pid namespace (two containers may share a host name)."""
    pid: int
    started: str
    """Start of the process, in words that a jump of the clock does not change."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_owner() -> Owner:
    """A new owner: this process, from now on."""
    started = _start_of(os.getpid())
    assert started is not None
    return Owner(id=secrets.token_hex(8), host=socket.gethostname(), place=_place(), pid=os.getpid(), started=started)


def is_gone(owner: Owner) -> bool:
    """Whether the process surely exists no more; False for one of another machine, of which nothing is known here."""
    if owner.place != _place():
        return False
    started = _start_of(owner.pid)
    return started != owner.started if started else not _is_hidden(owner.pid)


def end_owner(owner: Owner) -> None:
    """End a process of this machine that has lost its run and does not know, because it hangs."""
    if owner.place == _place() and owner.pid != os.getpid() and not is_gone(owner):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            _end([psutil.Process(owner.pid)])


def end_orphans(run_dir: Path) -> int:
    """End every process that still works in the run's folder; the number of them.

    Steps outlive a parent that was killed: two trainings would write one checkpoint folder.
    """
    ended = 0
    # A shell may start its child between being found and being ended.
    for _ in range(_ROUNDS):
        found = _working_in(run_dir)
        if not found:
            break
        _end(found)
        ended += len(found)
    return ended


def _working_in(run_dir: Path) -> list[psutil.Process]:
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid not in spared and process.environ().get(RUN_DIR) == str(run_dir):
                found.append(process)
    return found


def _end(processes: Iterable[psutil.Process]) -> None:
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    psutil.wait_procs(processes, timeout=_SECONDS_TO_END)


def _start_of(pid: int) -> str | None:
    """When the process began; None when there is none (one that has ended and was not collected is none)."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        # Linux counts from the machine's start. psutil adds the time of that start, which moves with the clock.
        stat = Path(f"/proc/{pid}/stat")
        return stat.read_text().rpartition(")")[2].split()[19] if stat.is_file() else f"{process.create_time():.2f}"
    except (psutil.NoSuchProcess, OSError):
        return None


def _is_hidden(pid: int) -> bool:
    """Whether another user's process of this number exists that we may not look at."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


@cache
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
