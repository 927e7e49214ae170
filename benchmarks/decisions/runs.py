"""Many kinds and seeds, each in a store and with a champion of its own, on all cores.

In: kinds and how many seeds. Out: per kind how many were blessed, and why others were not.
"""

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Of each process: they share the cores among themselves. Progress bars of many runs at once tell nothing."""


def judge(seed: int, size: str, kinds: Sequence[str], folder: str) -> list[tuple[str, bool, list[str], float]]:
    """All ``kinds`` of one size and seed, in this process: (kind, blessed, why not, seconds)."""
    from benchmarks.decisions import scene
    from benchmarks.decisions.faults import FAULTS
    from benchmarks.decisions.good import GOOD
    from rewardloop.tracking.connection import connect

    home = Path(folder) / f"process-{os.getpid()}"
    os.environ["REWARDLOOP_HOME"] = str(home)
    os.environ.pop("REWARDLOOP_RUN_DIR", None)
    tracking_uri = connect(None, home, timeout_seconds=60)
    place = home / f"{size}-{seed}"
    at = scene.make_scene(place, seed, scene.SIZES[size], tracking_uri)
    found = []
    for kind in kinds:
        started = time.monotonic()
        verdict = (FAULTS | GOOD)[kind][1](at, seed)
        found.append((kind, verdict.blessed, verdict.why, time.monotonic() - started))
    shutil.rmtree(place)
    return found


def judge_all(kinds: Sequence[str], seeds: int, processes: int) -> dict[str, dict[str, Any]]:
    """Kind -> how many of ``seeds`` were blessed, why others were not, and the mean seconds of one."""
    from benchmarks.decisions.faults import FAULTS
    from benchmarks.decisions.good import GOOD

    for name, value in _ONE_THREAD.items():
        os.environ.setdefault(name, value)
    sizes = {kind: (FAULTS | GOOD)[kind][0] for kind in kinds}
    jobs = [
        (seed, size, [kind for kind in kinds if sizes[kind] == size])
        for seed in range(seeds)
        for size in dict.fromkeys(sizes.values())
    ]
    results: dict[str, list[tuple[bool, list[str], float]]] = {kind: [] for kind in kinds}
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        started = [pool.submit(judge, seed, size, chosen, folder) for seed, size, chosen in jobs]
        for (seed, size, _), done in zip(jobs, started, strict=True):
            for kind, blessed, why, seconds in done.result():
                results[kind].append((blessed, why, seconds))
                verdict = "blessed" if blessed else f"not blessed: {'; '.join(why)}"
                print(f"{kind}, seed {seed} ({size}, {seconds:.0f} s): {verdict}", flush=True)
    return {
        kind: {
            "blessed": sum(blessed for blessed, _, _ in found),
            "of": len(found),
            "why": dict(Counter(chain.from_iterable(why for _, why, _ in found)).most_common()),
            "seconds": round(sum(seconds for _, _, seconds in found) / max(1, len(found)), 1),
        }
        for kind, found in results.items()
    }
