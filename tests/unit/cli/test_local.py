"""A pipeline that is stopped from another thread ends with its steps."""

import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from rewardloop.cli.local import _children_end_with_us, stop_pipeline


def test_a_lost_run_is_stopped_while_the_main_thread_waits_for_a_step() -> None:
    step = [sys.executable, "-c", "import time; print('at work', flush=True); time.sleep(60)"]
    with subprocess.Popen(
        ["sh", "-c", f'"{step[0]}" -c "{step[2]}"; true'], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        started = time.monotonic()
        assert process.stdout.readline() == "at work\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        threading.Timer(0.5, stop_pipeline).start()
        with pytest.raises(KeyboardInterrupt), _children_end_with_us():
            process.stdout.readline()  # as KFP's runner waits for a step
        assert time.monotonic() - started < 30
        assert workers
        assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def test_nothing_is_stopped_where_no_pipeline_runs() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        stop_pipeline()
        time.sleep(0.05)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == []
