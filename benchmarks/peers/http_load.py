"""Load over HTTP from a process of its own: closed loops of concurrent callers on kept connections.

In: a host, a port, one or more whole requests, the number of callers and how long. Out: requests, failures and
latencies as one JSON line. Raw sockets and a few bytes of parsing: a client library would be slower than the server.
"""

import asyncio
import json
import signal
import sys
import time
from typing import Any


class Caller:
    """One connection that asks, waits and asks again; a connection that breaks is tried once more, as clients do."""

    def __init__(self, host: str, port: int, requests: list[bytes], until: float, most: int | None) -> None:
        self.host, self.port = host, port
        self.requests = requests
        self.until = until
        self.most = most
        self.seconds: list[float] = []
        self.failed: dict[str, int] = {}
        self.retried = 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, first: int) -> None:
        number = first
        while time.perf_counter() < self.until and (self.most is None or len(self.seconds) < self.most):
            started = time.perf_counter()
            status = await self._ask_twice(self.requests[number % len(self.requests)])
            self.seconds.append(time.perf_counter() - started)
            if status != "200":
                self.failed[status] = self.failed.get(status, 0) + 1
                await asyncio.sleep(0.01)
            number += 1

    async def _ask_twice(self, request: bytes) -> str:
        for attempt in range(2):
            try:
                return await self._ask(request)
            except (OSError, asyncio.IncompleteReadError) as error:
                if self._streams is not None:
                    self._streams[1].close()
                    self._streams = None
                if attempt:
                    return type(error).__name__
                self.retried += 1
        raise AssertionError

    async def _ask(self, request: bytes) -> str:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        if b"connection: close" in lines:
            writer.close()
            self._streams = None
        return head[9:12].decode()


async def load(arguments: dict[str, Any]) -> dict[str, Any]:
    """Drive ``callers`` for ``seconds``, until each has made ``requests_each``, or until SIGTERM."""
    host, port = arguments["host"], arguments["port"]
    bodies = [body.encode() for body in arguments["bodies"]]
    head = "POST {} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(arguments["path"], host, port, len(body)).encode() + body for body in bodies]
    started = time.perf_counter()
    until = started + arguments["seconds"]
    callers = [Caller(host, port, requests, until, arguments.get("requests_each")) for _ in range(arguments["callers"])]

    def stop() -> None:
        for caller in callers:
            caller.until = 0

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await asyncio.gather(*(caller.run(number * 7) for number, caller in enumerate(callers)))
    took = time.perf_counter() - started
    every = sorted(seconds for caller in callers for seconds in caller.seconds)
    failed: dict[str, int] = {}
    for caller in callers:
        for status, count in caller.failed.items():
            failed[status] = failed.get(status, 0) + count
    return {
        "requests": len(every),
        # Refusals are quick: only answers count.
        "requests_per_second": (len(every) - sum(failed.values())) / took,
        "p50_ms": 1_000 * every[len(every) // 2],
        "p99_ms": 1_000 * every[min(len(every) - 1, int(0.99 * len(every)))],
        "failed": sum(failed.values()),
        "failures": failed,
        "retried_connections": sum(caller.retried for caller in callers),
        "cpu_seconds": time.process_time(),
        "seconds": took,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(json.loads(sys.argv[1])))))
