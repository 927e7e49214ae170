"""Thousands of attempts in processes that may die or stall, and the sum of what became of them.

In: how many files, and a seed. Out: the counts.
"""

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from benchmarks.bad_input.attempt import Result, made, work

_START = 120.0
"""Seconds for a process to come up: imports, and every seed in every wrapping."""


class _Worker:
    """A process with the number that it is at."""

    def __init__(self, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=work, args=(other, seed), daemon=True)
        self.process.start()
        other.close()
        if not self.connection.poll(_START):
            self.stop()
            raise RuntimeError(f"a process did not come up within {_START:g} s")
        self.connection.recv()
        self.number: int | None = None
        self.since = 0.0

    def give(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.connection.send(number)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def run(files: int, seed: int, processes: int, patience: float) -> dict[str, Any]:
    """Every file once; the counts, with the first findings."""
    started = time.monotonic()
    results = list(tqdm(_results(files, seed, processes, patience), total=files, unit=" files", smoothing=0.05))
    crashes = [one for one in results if one.crash and one.crash != "hang"]
    hangs = [one for one in results if one.crash == "hang"]
    lost = [one for one in results if one.unaccounted]
    for one in [*crashes, *hangs, *lost][:20]:
        print(f"file {one.number}, {one.what}: {one.unaccounted} rows unaccounted\n{one.crash}")
    return {
        "files": files,
        "crashes": len(crashes),
        "hangs": len(hangs),
        "rows_unaccounted": sum(one.unaccounted for one in results),
        "peak_rss_gb": round(max(one.peak_bytes for one in results) / 1e9, 3),
        "seconds": round(time.monotonic() - started, 1),
        "slowest_seconds": round(max(one.seconds for one in results), 2),
        "taken": sum(one.taken for one in results),
        "seed": seed,
        "findings": [one.number for one in [*crashes, *hangs, *lost][:50]],
    }


def _results(files: int, seed: int, processes: int, patience: float) -> Iterator[Result]:
    numbers = iter(range(files))
    workers = [_Worker(seed) for _ in range(min(processes, files))]
    try:
        busy = [worker for worker in workers if _next(worker, numbers)]
        while busy:
            wait([worker.connection for worker in busy], timeout=1)
            for worker in list(busy):
                result = _answer(worker, seed, patience)
                if result is None:
                    continue
                yield result
                if result.crash and not worker.process.is_alive():
                    busy.remove(worker)
                    workers.remove(worker)
                    worker = _Worker(seed)
                    workers.append(worker)
                    busy.append(worker)
                if not _next(worker, numbers):
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.stop()


def _next(worker: _Worker, numbers: Iterator[int]) -> bool:
    number = next(numbers, None)
    if number is not None:
        worker.give(number)
    return number is not None


def _answer(worker: _Worker, seed: int, patience: float) -> Result | None:
    """The result of the worker's file; None while it is at work. A worker that died or stalled is no more."""
    assert worker.number is not None
    waited = time.monotonic() - worker.since
    problem = ""
    if _ready(worker.connection):
        try:
            result = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            problem = f"the process died with {worker.process.exitcode}"
        else:
            assert isinstance(result, Result)
            return result
    elif waited > patience:
        problem = "hang"
    if not problem:
        return None
    worker.stop()
    return Result(worker.number, made(worker.number, seed)[1], crash=problem, seconds=waited)


def _ready(connection: Connection) -> bool:
    return connection.poll(0)
