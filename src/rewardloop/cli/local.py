"""Run a compiled pipeline through KFP's own local runners, with caching: steps are processes or containers.

In: a graph's name, its parameters, where steps work. Out: the steps' records in the run's folder, since KFP forgets
exit codes and causes. Children and containers are ended when this process is told to stop: a step would otherwise go on
alone.
"""

import contextlib
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from rewardloop.cli.graphs import shipped
from rewardloop.cli.runners import Containers
from rewardloop.cli.stream import RunStream

_at_work = threading.Event()


def run_pipeline(
    name: str, parameters: Mapping[str, str], *, root: Path, run_dir: Path, containers: Containers | None = None
) -> None:
    """Run ``compiled/<name>.yaml``; steps' outputs and KFP's cache are kept under ``root``.

    Returns whether or not a step failed: what became of the run is told by the steps' records, and the full output is
    in ``run_dir/log.txt``.

    Args:
        name: of the compiled pipeline.
        parameters: all of them.
        root: folder of all runs' outputs.
        run_dir: folder of this run.
        containers: how steps are run in containers; None: they are processes.
    """
    from kfp import components, local

    warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
    root.mkdir(parents=True, exist_ok=True)  # an engine would make it, for root
    pipeline = components.load_component_from_text(_graph(name, containers.image if containers else None))
    local.init(
        _runner(containers, run_dir),
        pipeline_root=str(root),
        workspace_root=str(run_dir / "tmp"),
        enable_caching=True,
    )
    with (run_dir / "log.txt").open("a", encoding="utf-8") as log:
        stream = RunStream(log, run_dir)
        with (
            contextlib.closing(stream),
            _children_end_with_us(),
            _containers_end_with_us(containers, run_dir),
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


def _graph(name: str, image: str | None) -> str:
    """The shipped graph, with ``image`` in every step."""
    text = shipped(name)
    if image is None:
        return text
    import yaml

    graph = yaml.safe_load(text)
    for executor in graph["deploymentSpec"]["executors"].values():
        if "container" in executor:
            executor["container"]["image"] = image
    return str(yaml.safe_dump(graph))


def _runner(containers: Containers | None, run_dir: Path) -> Any:
    from kfp import local

    if containers is None:
        return local.SubprocessRunner(use_venv=False)
    return local.DockerRunner(**containers.arguments(run_dir))


@contextlib.contextmanager
def _containers_end_with_us(containers: Containers | None, run_dir: Path) -> Iterator[None]:
    """An engine's containers are no children of this process: whatever ends the run, they are ended by name."""
    if containers is None:
        yield
        return
    from rewardloop.cli.containers import end_containers, exit_codes_kept

    end_containers(run_dir)  # of an attempt that was killed
    try:
        with exit_codes_kept():
            yield
    finally:
        end_containers(run_dir)


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
        """End every process of the steps, and then the run."""
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
