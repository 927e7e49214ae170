"""``rewardloop serve --workers``: a process that is killed is replaced, and one that cannot start ends the command."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import requests

from tests.served import Served, decide, registered_version


def test_a_worker_that_is_killed_is_replaced(tiny_base: str, tmp_path: Path) -> None:
    _, arguments = registered_version(tmp_path, tiny_base)
    with Served(tmp_path, *arguments, "--workers", "2") as served:
        assert served.line.startswith("serving film-reviews-reward/champion in 2 processes on ")
        parent = psutil.Process(served.process.pid)
        workers = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        assert decide(served.url).status_code == 200
        workers[0].kill()
        # A new connection is taken by whoever lives: nobody is refused, and at most those in the dead one's hands are
        # cut off.
        assert [decide(served.url).status_code for _ in range(20)] == [200] * 20
        deadline = time.monotonic() + 90
        while "another is started" not in (tmp_path / "stderr").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # The figures are those of all workers, the dead one's too.
        figures = requests.get(f"{served.url}/metrics", timeout=30).text
        assert 'rewardloop_requests_total{route="/v1/decide",status="200"} 21.0' in figures
    assert served.process.returncode == 0


def test_workers_that_cannot_start_end_the_command(tmp_path: Path) -> None:
    arguments = ["--reward-model", str(tmp_path), "--workers", "2", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "rewardloop.cli.main", "serve", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (2, "")
    assert "has no model, scoring.json, parity.json; give a folder" in errors
