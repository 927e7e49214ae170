"""What a step costs: seconds and processor time before and during its work, and the most memory it held.

In: nothing; the process is looked at. Out: fields of ``StepRecord``. On a system without ``/proc`` the peak is the C
library's.
"""

import os
import resource
import sys
import threading
import time

from rewardloop.memory import peak_rss_bytes

_SAMPLE_SECONDS = 1.0
"""How often the memory of child processes is looked at; a peak shorter than this may be missed."""

_claimed: set[int] = set()
"""This process' id once a step's start-up was told: a second step in one process has none of its own."""


class ResourceMeter:
    """Measures from its creation to ``stop``; children count once they are there."""

    def __init__(self) -> None:
        first = os.getpid() not in _claimed
        _claimed.add(os.getpid())
        self.startup_seconds = round(_process_age(), 2) if first else None
        self.startup_cpu_seconds = round(_cpu_seconds(), 2) if first else None
        self._cpu = _cpu_seconds()
        self._tree_peak = 0
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True, name="rewardloop-resources")
        self._sampler.start()

    def stop(self) -> None:
        """End the sampling; the figures stay readable."""
        self._over.set()
        self._sampler.join()

    def fields(self) -> dict[str, float | int | None]:
        """The figures so far, under the names of ``StepRecord``."""
        return {
            "startup_seconds": self.startup_seconds,
            "startup_cpu_seconds": self.startup_cpu_seconds,
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "peak_memory_bytes": max(peak_rss_bytes(), self._tree_peak),
            "peak_gpu_memory_bytes": _gpu_peak_bytes(),
        }

    def _sample(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._over.wait(_SAMPLE_SECONDS):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it ended in this moment
                    continue
            self._tree_peak = max(self._tree_peak, total)


def _cpu_seconds() -> float:
    """User and system time of this process and of its children that were waited for."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


def _process_age() -> float:
    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())


def _gpu_peak_bytes() -> int | None:
    """None where this process used no CUDA device; a step that did has imported torch already."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return sum(int(torch.cuda.max_memory_allocated(device)) for device in range(torch.cuda.device_count()))
