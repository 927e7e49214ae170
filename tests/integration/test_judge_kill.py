"""``rewardloop judge`` is killed, started again, and started twice: nothing is asked twice that was answered."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.judges import JudgeServer, Reply, fair, judging

CONFIG = Path("conf/smoke.yaml").resolve()
GROUPS = 40


def start(folder: Path, server: JudgeServer, output: str) -> subprocess.Popen[str]:
    settings = {
        "home": folder / "home",
        "store.url": folder / "store",
        "judge.url": server.url,
        "judge.model": "m",
        "judge.constitution": "Be lively.",
    }
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "rewardloop.cli.main", "judge", "answers.jsonl", "--output", output, *overrides],
        cwd=folder,
        env=os.environ | {"REWARDLOOP_CONFIG": str(CONFIG)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_run_goes_on_and_two_at_once_label_alike(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}", "responses": [f"a{i}", f"b{i}!"]} for i in range(GROUPS)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def unhurried(server: JudgeServer, body: dict[str, Any]) -> Reply:
        time.sleep(0.05)
        return fair(server, body)

    with judging(unhurried) as server:
        killed = start(tmp_path, server, "killed.jsonl")
        while len(server.asked) < 20 and killed.poll() is None:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert not (tmp_path / "killed.jsonl").exists()
        kept = len(list((tmp_path / "home" / "judge").rglob("*.json")))
        assert 10 <= kept < 2 * GROUPS
        two = [start(tmp_path, server, f"{number}.jsonl") for number in range(2)]
        said = [process.communicate(timeout=200)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    one, other = (tmp_path / f"{number}.jsonl" for number in range(2))
    assert one.read_bytes() == other.read_bytes()
    assert len(one.read_text().splitlines()) == GROUPS
    # Doubled are only requests on their way when the process died, and such as the two sent at the same moment.
    times = Counter(json.dumps(body["messages"]) for body in server.asked)
    assert len(times) == 2 * GROUPS
    assert max(times.values()) <= 3
    assert not list(tmp_path.glob(".*.jsonl*"))
