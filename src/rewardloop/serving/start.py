"""A server process from its first line: the model, its application, and the process that keeps several of them alive.

In: ``Options``, which travel to worker processes. Out: requests answered until SIGTERM or Ctrl-C.
"""

import functools
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess

from rewardloop.config import ServingSettings
from rewardloop.errors import RewardloopError
from rewardloop.feedback.pseudonyms import store_key
from rewardloop.logs import set_up_logging
from rewardloop.serving.app import make_app
from rewardloop.serving.decision_log import DecisionLog
from rewardloop.serving.keys import ApiKeys
from rewardloop.serving.metrics import SHARED, Metrics
from rewardloop.serving.models import Champion, Holder, ServedModel, open_folder, open_registered
from rewardloop.serving.service import Service
from rewardloop.storage import Storage

_LAST_ANSWERS_SECONDS = 25
"""For requests that are under way at SIGTERM; Kubernetes kills after 30 s."""
_START_SECONDS = 600.0
"""A worker that has not loaded its model by then never will."""

_HUNG_SECONDS = 60
"""A worker that gives no sign of life for so long is killed; until its libraries are imported it cannot give any."""


@dataclass(frozen=True)
class Options:
    """What to serve and how; a worker process gets a copy."""

    settings: ServingSettings
    folder: Path | None = None
    """A reward model that is in no registry."""
    model_name: str = ""
    version: str | None = None
    """Number of the version; None: the champion, whichever it is."""
    tracking_uri: str = ""
    store: str | None = None
    home: Path = Path()
    keys_file: Path | None = None

    @property
    def rounding(self) -> bool:
        """Whether bfloat16 may be used where it changes no decision."""
        return self.settings.precision == "auto"


def make_service(options: Options) -> Service:
    """Load the model and what belongs to it.

    Raises:
        BadInputError: there is no such model, or the keys cannot be read.
        RewardloopError: the model's files are not those that were registered.
    """
    keys = ApiKeys.read(options.keys_file) if options.keys_file else None
    metrics = Metrics()
    log = None
    if options.store is not None and options.settings.log.sample > 0:
        key = store_key(options.home)

        def count(outcome: str, rows: int) -> None:
            metrics.logged.labels(outcome).inc(rows)

        log = DecisionLog(Storage.open(options.store), options.settings.log, key, count=count)
    return Service(_holder(options), options.settings, log=log, keys=keys, metrics=metrics)


def _holder(options: Options) -> Holder:
    if options.folder is not None:
        return Holder(open_folder(options.folder, rounding=options.rounding))
    if options.version is not None:
        uri = f"models:/{options.model_name}/{options.version}"
        return Holder(open_registered(uri, options.tracking_uri, rounding=options.rounding))
    assert options.store is not None
    champion = Champion(options.model_name, Storage.open(options.store), options.tracking_uri, options.rounding)
    return Holder(champion.open(), champion)


def serve_alone(options: Options, listener: socket.socket, ready: Callable[[ServedModel], object]) -> None:
    """Answer in this process until SIGTERM or Ctrl-C; ``ready`` is told the model when requests are taken."""
    set_up_logging()
    service = make_service(options)

    class Server(uvicorn.Server):
        """Says when it takes requests, and not before."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(service.model)

    config = _config(functools.partial(make_app, service), options.settings)
    # uvicorn stops at SIGTERM and raises it once more: without this, the exit code would be that of a killed process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])


def serve_with_workers(options: Options, listener: socket.socket, workers: int, ready: Callable[[int], object]) -> int:
    """Answer in ``workers`` processes that share one port, and start again those that die, until SIGTERM or Ctrl-C.

    All of them accept from one socket, so that a killed worker takes no waiting connection with it.

    Returns:
        the exit code: 0, or that of a worker that could not start.
    """
    with tempfile.TemporaryDirectory(prefix="rewardloop-metrics-") as shared:
        os.environ[SHARED] = shared
        # No worker starts listening before its model is loaded; the parent does it for all, so that nobody is refused
        # while a worker starts again.
        config = _config(functools.partial(_worker_app, options), options.settings, workers)
        listener.listen(config.backlog)
        listener.set_inheritable(True)
        supervisor = Supervisor(config, [listener], ready)
        supervisor.run()
        return supervisor.failed


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which stops at once where the first workers cannot start."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], ready: Callable[[int], object]) -> None:
        super().__init__(config, sockets)
        self._ready = ready
        self.failed = 0
        """Exit code of a worker that could not start."""

    def init_processes(self) -> None:
        """Start the workers and wait until all of them take requests."""
        super().init_processes()
        deadline = time.monotonic() + _START_SECONDS
        for process in self.processes:
            while not self.should_exit.is_set() and not process.is_ready(timeout=1):
                self.handle_signals()
                if not process.process.is_alive() or time.monotonic() > deadline:
                    self.failed = process.exitcode or 1
                    self.should_exit.set()
                time.sleep(0.05)
        if not self.should_exit.is_set():
            self._ready(len(self.processes))

    def keep_subprocess_alive(self) -> None:
        """Start again what died, and take its gauges out of the figures."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            logging.getLogger(__name__).error("worker %s died; another is started", pid)
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _worker_app(options: Options) -> FastAPI:
    """The application of a worker process; one that cannot load its model ends, and the supervisor tries again."""
    set_up_logging()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        return make_app(make_service(options))
    except RewardloopError as error:
        print(f"rewardloop: {error}", file=sys.stderr, flush=True)
        time.sleep(options.settings.poll_seconds)
        sys.exit(error.exit_code)


def _end_with_parent() -> None:
    # A supervisor that was killed outright cannot end its workers, and they would hold the port.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _config(app: Callable[[], FastAPI], settings: ServingSettings, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        workers=workers,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=round(settings.keep_alive_seconds),
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
        timeout_worker_healthcheck=_HUNG_SECONDS,
    )
