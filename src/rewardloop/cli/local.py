"""Run a compiled pipeline through KFP's own local runner, with caching, in this process and its children.

KFP forgets exit codes and causes; the steps' records in the run's folder have them. Children are ended when this
process is told to stop, since a step would otherwise go on alone.
"""

import contextlib
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from types import FrameType

from rewardloop.cli.stream import RunStream

_at_work = threading.Event()


def run_pipeline(name: str, parameters: Mapping[str, str], *, root: Path, run_dir: Path) -> None:
    """Run ``compiled/<name>.yaml``; steps' outputs and KFP's cache are kept under ``root``.

    Returns whether or not a step failed: what became of the run is told by the steps' records, and the full output is
    in ``run_dir/log.txt``.
    """
    from kfp import components, local

    warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
    pipeline = components.load_component_from_file(str(files("rewardloop") / "compiled" / f"{name}.yaml"))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        workspace_root=str(run_dir / "tmp"),
        enable_caching=True,
    )
    with (run_dir / "log.txt").open("a", encoding="utf-8") as log:
        stream = RunStream(log, run_dir)
        with (
            contextlib.closing(stream),
            _children_end_with_us(),
            _root_logger(stream),
            contextlib.redirect_stdout(stream),
        ):
            try:
                pipeline(**parameters)
            except (RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
                # RuntimeError is KFP's word for a failed step; the others come from its orchestrator.
                log.write(f"{type(error).__name__}: {error}\n")


def stop_pipeline() -> None:
    """From any thread: end the pipeline that runs in this process, as SIGTERM does; nothing where none runs."""
    main = threading.main_thread().ident
    if main is not None and _at_work.is_set():
        signal.pthread_kill(main, signal.SIGTERM)


@contextlib.contextmanager
def _root_logger(stream: RunStream) -> Iterator[None]:
    # KFP tells of cache hits and skipped tasks on the root logger only.
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@contextlib.contextmanager
def _children_end_with_us() -> Iterator[None]:
    import psutil

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        children = psutil.Process().children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        for child in psutil.wait_procs(children, timeout=5)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        raise KeyboardInterrupt(f"signal {number}")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    _at_work.set()
    try:
        yield
    finally:
        _at_work.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.stdout.flush()
