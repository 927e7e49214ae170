"""An application behind a port, in a thread of its own: the main thread is the one that runs pipelines.

In: an ASGI application and an address. Out: answers until it is stopped.
"""

import socket
import threading
import time

import uvicorn
from fastapi import FastAPI

from rewardloop.errors import BadInputError, RewardloopError

_STOP_SECONDS = 5
_START_SECONDS = 10


class Listener:
    """One server; it holds the port from the beginning and answers from ``start`` on."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        """Bind the port.

        Raises:
            BadInputError: it is taken, or the host is not of this machine.
        """
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise BadInputError(f"--listen {host}:{port}: cannot listen there: {why}; choose another") from error
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="webhooks", daemon=True
        )

    def start(self) -> None:
        """Answer requests; returns when it does."""
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RewardloopError("--listen: the server did not start; its error is above")
            time.sleep(0.01)

    def stop(self) -> None:
        """Let requests that are under way be answered, for a few seconds, and close the port."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _STOP_SECONDS)
        self._socket.close()
