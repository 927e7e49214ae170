"""``rewardloop serve``: a reward model over HTTP, for alignment on another node (``align.reward_url``).

In: the folder of a trained reward model, or a registered version. Out: ``GET /health`` and ``POST /score`` until
SIGTERM or Ctrl-C; one line with the address when it is ready.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides
from rewardloop.cli.registered import find_version
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.modeling.scoring import RewardScorer

_PARTS = ("model", "scoring.json", "parity.json")
_LAST_ANSWERS_SECONDS = 25
"""For requests that are under way at SIGTERM; Kubernetes kills after 30 s."""


def serve(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    reward_model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Serve this folder (model/, scoring.json, parity.json) and no version."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version or alias of the reward model.", show_default="champion")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every network, unprotected.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8080,
    precision: Annotated[
        Literal["auto", "float32"],
        typer.Option(help="float32: scores as they were certified; auto: bfloat16 where it changes no decision."),
    ] = "float32",
) -> None:
    """Serve a reward model over HTTP, for align.reward_url on another node (until SIGTERM or Ctrl-C)."""
    if reward_model is not None and version is not None:
        raise BadInputError("serve: give either --reward-model or --version")
    # Loading a model is no news here.
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    with _bound(host, port) as listener:
        if reward_model is not None:
            scorer, digest = _open_folder(reward_model, rounding=precision == "auto")
            name = str(reward_model)
        else:
            model, uri = find_version(config, overrides, version or "champion")
            scorer, digest = _open_registered(model, uri, rounding=precision == "auto")
            name = model.removeprefix("models:/")
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        _run(scorer, digest, listener, f"serving {name} ({digest[:12]}) on {address}")


def _bound(host: str, port: int) -> socket.socket:
    """A socket that holds the port, so that a wrong one is known before the model is loaded; it does not listen yet."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadInputError(
            f"serve: cannot listen on {host} port {port}: {error.strerror}; choose another with --host and --port"
        ) from error
    return listener


def _open_folder(folder: Path, *, rounding: bool) -> "tuple[RewardScorer, str]":
    missing = [part for part in _PARTS if not (folder / part).exists()]
    if missing:
        raise BadInputError(
            f"--reward-model {folder}: has no {', '.join(missing)}; give a folder with {', '.join(_PARTS)}, as "
            "train_reward_model writes it"
        )
    from safetensors import SafetensorError

    from rewardloop.modeling.scoring import RewardScorer

    try:
        scorer = RewardScorer.load(folder)
        return scorer, _checked(scorer, folder, str(folder), rounding=rounding)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadInputError(f"--reward-model {folder}: cannot be loaded: {reason}; train or copy it again") from error


def _open_registered(model: str, uri: str, *, rounding: bool) -> "tuple[RewardScorer, str]":
    from rewardloop.tracking.pyfunc_model import load_scoring
    from rewardloop.tracking.registry import open_version

    # As load_scorer does, but with the digest of the same files: a remote registry is read once.
    with open_version(model, uri) as (directory, _):
        scorer = load_scoring(directory).RewardScorer.load(directory)
        return scorer, _checked(scorer, directory, f"{model} in {uri}", rounding=rounding)


def _checked(scorer: "RewardScorer", directory: Path, where: str, *, rounding: bool) -> str:
    """Digest of the weights, once the scores are found to be those of the fixture."""
    from rewardloop.modeling.parity import check_parity
    from rewardloop.modeling.reward_model import weights_digest

    fixture = directory / "parity.json"
    check_parity(scorer, fixture, where=where)
    if rounding:
        scorer.allow_rounding(json.loads(fixture.read_text(encoding="utf-8")))
    return weights_digest(directory / "model")


def _run(scorer: "RewardScorer", digest: str, listener: socket.socket, announcement: str) -> None:
    import uvicorn

    from rewardloop.modeling.scoring_server import make_app

    class Server(uvicorn.Server):
        """Says when it takes requests, and not before."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            typer.echo(announcement)

    app = make_app(scorer, digest)
    settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS)
    # uvicorn stops at SIGTERM and raises it once more: without this, the exit code would be that of a killed process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt):
        Server(settings).run(sockets=[listener])
