"""Decisions over HTTP beside ``mlflow models serve`` with the same registered model, in one run.

    python -m benchmarks.serving [--base tiny|smollm2] [--seconds N]

Load comes from a process of its own over loopback: closed loops of 1, 8 and 32 callers, each request one answer.
``speedup_at_32`` is requests per second of ``/v1/decide`` over those of ``/invocations`` at 32 callers; both servers
run with one process and their defaults. ``swaps``: the champion changes under load; ``kill``: one of two worker
processes is killed under load, with clients that try once more where a connection breaks; ``memory``: resident memory
after 2,000 requests and at the end. ``tiny`` measures the server, ``smollm2`` (8 random layers of SmolLM2-135M) the
model too. The last line is one JSON object.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import requests
import typer

from benchmarks import workloads
from benchmarks.peer_environment import PEERS, run_peer
from benchmarks.registered_models import Registered, register_random
from benchmarks.scoring import rows_of

_CALLERS = (1, 8, 32)
_START_SECONDS = 900
_WARM_UP = 40
"""Requests before anything counts."""


def main(
    base: Annotated[Literal["tiny", "smollm2"], typer.Option(help="The model that both servers serve.")] = "tiny",
    seconds: Annotated[float, typer.Option(help="Of load per server and number of callers.")] = 10,
    rounds: Annotated[int, typer.Option(help="How often each is measured; the fastest counts.")] = 2,
    swaps: Annotated[int, typer.Option(help="Changes of champion under load.")] = 20,
    requests_for_memory: Annotated[int, typer.Option(help="Requests over which memory is watched.")] = 20_000,
) -> None:
    """Measure and print one JSON object as the last line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so end the servers too
    with tempfile.TemporaryDirectory(prefix="rewardloop-serving-") as temporary:
        folder = Path(temporary)
        if base == "tiny":
            texts, longest = rows_of(32, shared=False, seed=0, longest=50), 128
            model = "random:tiny"
        else:
            texts, longest = rows_of(32, shared=False, seed=0, longest=300), 640
            model = str(workloads.make_base(folder / "base"))
        registered = register_random(
            folder, _base(model, folder), [row["response"] for row in texts], count=2, max_length=longest
        )
        result: dict[str, Any] = {"base": base, **_beside_mlflow(registered, texts, seconds, rounds)}
        result["swaps"] = _swaps(registered, texts, swaps)
        result["kill"] = _kill(registered, texts, seconds)
        result["memory"] = _memory(registered, texts, requests_for_memory)
    result["machine"] = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    result["cores"] = os.cpu_count()
    result["date"] = datetime.now(UTC).date().isoformat()
    print(json.dumps(result))


def _base(name: str, folder: Path) -> str:
    from rewardloop.modeling.base import prepare_base

    return prepare_base(name, folder / "base-models")


def _beside_mlflow(registered: Registered, rows: list[dict[str, str]], seconds: float, rounds: int) -> dict[str, Any]:
    ours = [json.dumps({"rows": [row]}) for row in rows]
    theirs = [json.dumps({"dataframe_records": [row]}) for row in rows]
    found: dict[str, dict[str, Any]] = {"rewardloop": {}, "mlflow": {}}
    with _rewardloop(registered) as (port, _), _mlflow(registered) as (peer_port, _):
        servers = {"rewardloop": (port, "/v1/decide", ours), "mlflow": (peer_port, "/invocations", theirs)}
        difference = _largest_difference(port, peer_port, rows)
        for address in servers.values():
            _load(*address, callers=8, requests_each=_WARM_UP)
        for callers in _CALLERS:
            for _ in range(rounds):
                for name, address in servers.items():  # in turns: what disturbs one disturbs the other
                    line = _load(*address, callers=callers, seconds=seconds)
                    print(f"{name}, {callers} callers: {line['requests_per_second']:.0f} requests/s", flush=True)
                    best = found[name].get(str(callers))
                    if best is None or line["requests_per_second"] > best["requests_per_second"]:
                        found[name][str(callers)] = line
    speedups = {
        f"speedup_at_{callers}": round(
            found["rewardloop"][str(callers)]["requests_per_second"]
            / found["mlflow"][str(callers)]["requests_per_second"],
            2,
        )
        for callers in _CALLERS
    }
    return {**speedups, "largest_difference_of_a_score": difference, **found}


def _largest_difference(port: int, peer_port: int, rows: list[dict[str, str]]) -> float:
    """Both must answer the same before it means anything which is faster."""
    ours = requests.post(f"http://127.0.0.1:{port}/v1/decide", json={"rows": rows}, timeout=60).json()["decisions"]
    theirs = requests.post(
        f"http://127.0.0.1:{peer_port}/invocations", json={"dataframe_records": rows}, timeout=60
    ).json()["predictions"]
    return max(abs(one["score"] - other["score"]) for one, other in zip(ours, theirs, strict=True))


def _swaps(registered: Registered, rows: list[dict[str, str]], count: int) -> dict[str, Any]:
    slowest = 0.0
    with (
        _rewardloop(registered, poll_seconds=0.1) as (port, _),
        _loading(port, rows) as load,
    ):
        for number in range(count):
            version = registered.versions[(number + 1) % 2]
            started = time.monotonic()
            registered.make_champion(version)
            while requests.get(f"http://127.0.0.1:{port}/v1/model", timeout=60).json()["version"] != version:
                time.sleep(0.02)
            slowest = max(slowest, time.monotonic() - started)
        line = load()
    return {"count": count, "slowest_seconds": round(slowest, 2), **line}


def _kill(registered: Registered, rows: list[dict[str, str]], seconds: float) -> dict[str, Any]:
    with (
        _rewardloop(registered, workers=2) as (port, server),
        _loading(port, rows) as load,
    ):
        time.sleep(seconds)
        before = _workers(server)
        before[0].kill()
        killed = time.monotonic()
        while not {one.pid for one in _workers(server)} - {one.pid for one in before}:
            time.sleep(0.1)
        replaced = time.monotonic() - killed
        time.sleep(seconds)
        line = load()
    return {"workers": 2, "replaced_after_seconds": round(replaced, 1), **line}


def _memory(registered: Registered, rows: list[dict[str, str]], count: int) -> dict[str, Any]:
    bodies = [json.dumps({"rows": [row]}) for row in rows]
    callers, first = 32, min(2_000, count // 2)
    with _rewardloop(registered) as (port, server):
        lines = [_load(port, "/v1/decide", bodies, callers=callers, requests_each=-(-first // callers))]
        early = server.memory_info().rss
        lines.append(_load(port, "/v1/decide", bodies, callers=callers, requests_each=-(-(count - first) // callers)))
        late = server.memory_info().rss
    return {
        "requests": sum(line["requests"] for line in lines),
        "failed": sum(line["failed"] for line in lines),
        "rss_early_bytes": early,
        "rss_late_bytes": late,
        "growth": round(late / early - 1, 4),
    }


def _load(
    port: int, path: str, bodies: list[str], *, callers: int, seconds: float = 600, requests_each: int | None = None
) -> dict[str, Any]:
    arguments = _arguments(port, path, bodies, callers) | {"seconds": seconds, "requests_each": requests_each}
    return run_peer(Path(sys.executable), PEERS / "http_load.py", arguments)


def _arguments(port: int, path: str, bodies: list[str], callers: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "path": path, "bodies": bodies, "callers": callers}


@contextmanager
def _loading(port: int, rows: list[dict[str, str]]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Eight callers until the yielded function is called, which gives their report."""
    bodies = [json.dumps({"rows": [row]}) for row in rows]
    arguments = _arguments(port, "/v1/decide", bodies, 8) | {"seconds": 3_600}
    command = [sys.executable, str(PEERS / "http_load.py"), json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603

        def end() -> dict[str, Any]:
            process.send_signal(signal.SIGTERM)
            report: dict[str, Any] = json.loads(process.communicate(timeout=60)[0])
            return report

        time.sleep(1)  # until all callers are at it
        try:
            yield end
        finally:
            process.kill()


@contextmanager
def _rewardloop(registered: Registered, workers: int = 1, **serving: object) -> Iterator[tuple[int, psutil.Process]]:
    """``rewardloop serve``: port and process."""
    port = _free_port()
    command = ["-m", "rewardloop.cli.main", "serve", "-c", str(registered.configuration(**serving))]
    command += ["--port", str(port), "--workers", str(workers)]
    with _running([sys.executable, *command], registered, port, "/readyz") as server:
        yield port, server


@contextmanager
def _mlflow(registered: Registered) -> Iterator[tuple[int, psutil.Process]]:
    """``mlflow models serve``: port and process."""
    port = _free_port()
    model = f"models:/{registered.name}/{registered.versions[0]}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    with _running([*command, "-p", str(port)], registered, port, "/ping") as server:
        yield port, server


@contextmanager
def _running(command: list[str], registered: Registered, port: int, ready: str) -> Iterator[psutil.Process]:
    log = registered.folder / f"server-{port}.log"
    environment = {
        "MLFLOW_TRACKING_URI": registered.tracking_uri,
        # mlflow starts uvicorn by its name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603
            command, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            _wait_until_ready(process, port, ready, log)
            yield psutil.Process(process.pid)
        finally:
            # mlflow's shell hands no signal on.
            os.killpg(process.pid, signal.SIGTERM)


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, path: str, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(f"http://127.0.0.1:{port}{path}", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError(f"{' '.join(process.args)} does not answer:\n{log.read_text()[-2_000:]}")  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _workers(server: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in server.children():
        with suppress(psutil.Error):  # one that was killed just now
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


if __name__ == "__main__":
    typer.run(main)
