"""How much memory a process has held at most."""

import resource
import sys
from pathlib import Path


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far."""
    # On Linux ru_maxrss of a started process begins at the peak of the one that started it; VmHWM is its own.
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.is_file() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
