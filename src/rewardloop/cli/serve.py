"""``rewardloop serve``: decisions over HTTP, and a reward model for alignment on another node (``align.reward_url``).

In: the champion, another registered version, or the folder of a trained reward model. Out: answers until SIGTERM or
Ctrl-C; one line with the address when it is ready.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.cli.registered import find_version
from rewardloop.config import ServingSettings
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.serving.models import ServedModel
    from rewardloop.serving.start import Options

_KERNELS_KEPT = "64"
"""Of oneDNN, which keeps one for every number of tokens that it has met, 1,024 of them in two caches: batches of
requests have another number each time, and memory would double. So many are used again soon; fewer cost no time."""
_KEYS_FILE = "REWARDLOOP_API_KEYS_FILE"


def serve(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    reward_model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Serve this folder (model/, scoring.json, parity.json) and no version."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(help="Serve this version or alias for good.", show_default="the champion, whichever it is"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Processes behind the port; one that dies is replaced.")] = 1,
    precision: Annotated[
        Literal["auto", "float32"] | None,
        typer.Option(
            help="float32: scores as they were certified; auto: bfloat16 where it changes no decision.",
            show_default="serving.precision",
        ),
    ] = None,
) -> None:
    """Serve scores and decisions over HTTP, following the champion (until SIGTERM or Ctrl-C)."""
    if reward_model is not None and version is not None:
        raise BadInputError("serve: give either --reward-model or --version")
    # Loading a model is no news here.
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, _KERNELS_KEPT)
    with _bound(host, port) as listener:
        keys = os.environ.get(_KEYS_FILE)
        if keys is None and not _is_local(host):
            typer.echo(
                f"rewardloop: whoever reaches {host} may ask; no {_KEYS_FILE} is set (rewardloop serve-key)",
                err=True,
            )
        options = _options(config, overrides, reward_model, version, precision, Path(keys) if keys else None)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        _run(options, listener, workers, address)


def serve_key(name: Annotated[str, typer.Argument(help="Who will use the key.")]) -> None:
    """Make an API key for rewardloop serve; it is shown once and kept nowhere."""
    from rewardloop.serving.keys import new_key

    key, line = new_key(name)
    typer.echo(f"key for {name}, shown only now: {key}", err=True)
    typer.echo(line)


def _options(
    config: Path,
    overrides: list[str] | None,
    folder: Path | None,
    version: str | None,
    precision: str | None,
    keys_file: Path | None,
) -> "Options":
    # A folder needs no configuration; one that is named is read.
    if folder is not None and config == DEFAULT_CONFIG and not config.exists() and not overrides:
        settings, found = ServingSettings(), None
    else:
        found = read_settings(config, overrides).settings
        settings = found.serving
    if precision is not None:
        settings = settings.model_copy(update={"precision": precision})
    from rewardloop.serving.start import Options

    if folder is not None:
        return Options(settings, folder=folder, keys_file=keys_file)
    assert found is not None
    model, uri = find_version(config, overrides, version or "champion")
    return Options(
        settings,
        model_name=found.model_name,
        version=None if version in (None, "champion") else model.rpartition("/")[2],
        tracking_uri=uri,
        store=found.store.url,
        home=Path(found.home).resolve(),
        keys_file=keys_file,
    )


def _run(options: "Options", listener: socket.socket, workers: int, address: str) -> None:
    from rewardloop.serving.start import serve_alone, serve_with_workers

    if workers > 1:
        what = str(options.folder) if options.folder else f"{options.model_name}/{options.version or 'champion'}"
        said = f"serving {what} in {workers} processes on {address}"
        sys.exit(serve_with_workers(options, listener, workers, lambda _: typer.echo(said)))

    def ready(model: "ServedModel") -> None:
        typer.echo(f"serving {model.name} ({model.digest[:12]}) on {address}")

    serve_alone(options, listener, ready)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that holds the port, so that a wrong one is known before the model is loaded; it does not listen yet."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. asyncio sets it only on sockets that name their protocol; without it the body of an answer
    # waits 40 ms for the caller to acknowledge the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadInputError(
            f"serve: cannot listen on {host} port {port}: {error.strerror}; choose another with --host and --port"
        ) from error
    return listener


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
