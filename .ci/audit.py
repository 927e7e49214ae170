"""Known vulnerabilities of the pinned dependencies, by pip-audit: what `make audit` runs after bandit.

In: a file of pins. Out: one line per vulnerability, exit code 1 where there is one. pip-audit asks an index on the net.
Of one that knows nothing of vulnerabilities (many mirrors) it says "No known vulnerabilities found"; here that is said
as what it is, as is an index that does not answer: skipped.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SECONDS = 900


def verdict(report: Mapping[str, Any] | None, trouble: str = "") -> tuple[int, list[str]]:
    """(exit code, lines) for pip-audit's JSON; None: it made none, and ``trouble`` is the last that it said."""
    packages = report["dependencies"] if report else []
    asked = [one for one in packages if "vulns" in one]
    if not asked:
        why = trouble or "the index knows no package's vulnerabilities"
        return 0, [f"audit: skipped: no vulnerability database ({why})"]
    lines = [
        f"{one['name']} {one['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for one in asked
        for found in one["vulns"]
    ]
    left_out = [one["name"] for one in packages if "vulns" not in one]
    if left_out:
        lines.append(f"audit: not asked about {len(left_out)}: {', '.join(left_out)}")
    found = sum(len(one["vulns"]) for one in asked)
    lines.append(f"audit: {found} known vulnerabilities in {len(asked)} packages")
    return int(found > 0), lines


def main(pins: str) -> int:
    """Ask about every pin, and say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "audit.json"
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        command += ["-r", pins, "-f", "json", "-o", str(output)]
        try:
            done = subprocess.run(  # noqa: S603  a list of our own, no shell
                command, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
            trouble = next(reversed(done.stderr.strip().splitlines()), "")[:200]
        except subprocess.TimeoutExpired:
            trouble = f"no answer in {_SECONDS} s"
        # Whatever goes wrong it exits with 1, as for a vulnerability; only a report says which it was.
        report = json.loads(output.read_bytes()) if output.is_file() and output.stat().st_size else None
    code, lines = verdict(report, "" if report else trouble)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
