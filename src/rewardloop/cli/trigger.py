"""``rewardloop trigger``: the loop by itself, once (for cron and its kin) or for as long as it is let.

In: settings, the store, the inbox, and with ``--listen`` requests. Out: runs, when the section ``trigger`` says that
they are due. Any number of triggers may work on one store: the claims let one of them run each corpus.
"""

import logging
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError, RewardloopError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewardloop.cli.looking import Looker
    from rewardloop.cli.run_result import RunResult
    from rewardloop.config import LoadedSettings
    from rewardloop.evidence import Check
    from rewardloop.operation.listener import Listener
    from rewardloop.operation.watch import Place, Wakes
    from rewardloop.operation.webhooks import Approval

_MARKS = "watch.json"
_log = logging.getLogger(__name__)


def trigger(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    once: Annotated[bool, typer.Option("--once", help="Look once: for cron and its kin.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look whenever something came, until SIGTERM.")] = False,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="With --watch: take webhooks here; port 0: any free one.")
    ] = None,
    submit: Annotated[
        bool, typer.Option("--submit", help="Start runs on Kubeflow Pipelines, as rewardloop submit does.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --once: only say what would be done.")] = False,
) -> None:
    """Take the inbox, and retrain if the section trigger says that it is due.

    Exit codes of --once: 0 not due, or as ``rewardloop run``; of --watch: 0 ended by SIGTERM or Ctrl-C, 1 so during
    a run, which goes on with the next trigger; with --submit: 0 nothing was due, or the run was submitted.
    """
    if once == watch:
        raise BadInputError("trigger: give one of --once and --watch")
    if listen is not None and not watch:
        raise BadInputError("trigger: --listen needs --watch: a single look takes no requests")
    if dry_run and not once:
        raise BadInputError("trigger: --dry-run needs --once: a watch that does nothing is of no use")
    address = _address(listen) if listen is not None else None
    loaded = read_settings(config, overrides)
    if submit:
        _check_submitting(loaded)
    if watch:
        raise typer.Exit(_watch(loaded, address, submits=submit))
    raise typer.Exit(_dry(loaded, submits=submit) if dry_run else _once(loaded, submits=submit))


def _check_submitting(loaded: "LoadedSettings") -> None:
    """What no run on a cluster could use is said at once, not when the first run is due."""
    from rewardloop.cli.cluster_runs import served_tracking_uri
    from rewardloop.cli.kubeflow import check_reachable

    check_reachable("store.url", loaded.settings.store.url)
    served_tracking_uri(loaded.settings)


def _submit(loaded: "LoadedSettings", *, reason: str) -> "RunResult":
    from rewardloop.cli.run_result import RunResult
    from rewardloop.cli.submit import submit_run

    done = submit_run(loaded, reason=reason)
    typer.echo(done.words)
    return RunResult("submitted" if done.run_id else "claimed elsewhere", 0, done.run_id)


def _once(loaded: "LoadedSettings", *, submits: bool) -> int:
    from rewardloop.cli.looking import Looker
    from rewardloop.cli.retraining import retrain

    looker = Looker(loaded, typer.echo, _submit if submits else retrain, submits=submits)
    _wait_for_growing(looker)
    run = looker.look().run
    return run.exit_code if run else 0


def _dry(loaded: "LoadedSettings", *, submits: bool) -> int:
    from rewardloop.cli.looking import Looker

    looker = Looker(loaded, typer.echo, submits=submits)
    _wait_for_growing(looker)
    names = looker.complete()
    for name in names:
        typer.echo(f"inbox: {name}: would be ingested")
    due = looker.due()
    besides = ", without what is in the inbox" if names else ""
    typer.echo(f"{'A run would start' if due.start else 'No run would start'}{besides}: {due.reason}")
    return 0


def _wait_for_growing(looker: "Looker") -> None:
    """A file that came a moment ago is worth the few seconds after which it is known to be complete."""
    names = looker.growing()
    if names:
        seconds = looker.settings.trigger.stable_seconds
        typer.echo(f"inbox: {', '.join(names)}: came just now; waiting {seconds:g} s (trigger.stable_seconds)")
        time.sleep(seconds)


def _watch(loaded: "LoadedSettings", address: tuple[str, int] | None, *, submits: bool) -> int:
    from rewardloop.cli.looking import Looker
    from rewardloop.cli.retraining import retrain
    from rewardloop.operation.watch import Wakes, follow_events, watch
    from rewardloop.storage import Storage

    settings, cut_short = loaded.settings, False

    def start(loaded: "LoadedSettings", *, reason: str) -> "RunResult":
        nonlocal cut_short
        if submits:
            return _submit(loaded, reason=reason)
        try:
            return retrain(loaded, reason=reason)
        except KeyboardInterrupt:
            cut_short = True
            raise

    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ExitStack() as leaving:
            looker, wakes, over = Looker(loaded, _say, start, submits=submits), Wakes(), threading.Event()
            places = _places(looker)
            leaving.callback(over.set)
            if address is not None:
                listener = _listener(loaded, looker, wakes, address)
                leaving.callback(listener.stop)
                listener.start()
                _say(f"listening on {address[0]}:{listener.port}")
            follow_events(places, wakes, over, _say)
            _say(f"watching {', '.join(place.name for place in places)}")
            watch(
                places,
                lambda woken: looker.look(woken).again_at,
                wakes,
                poll_seconds=settings.trigger.poll_seconds,
                keep=(Storage.open(str(Path(settings.home).resolve())), _MARKS),
                settings=f"{loaded.digest} {settings.trigger.model_dump_json()}",
                say=_say,
            )
    except KeyboardInterrupt:
        _say("ended in the middle of a run; the next trigger goes on with it" if cut_short else "ended")
    finally:
        signal.signal(signal.SIGTERM, before)
    return 1 if cut_short else 0


def _places(looker: "Looker") -> "list[Place]":
    from rewardloop.operation.watch import Place

    store = looker.store.storage
    places = [Place(store, "batches", recursive=True), Place(store, "accepted")]
    if looker.settings.trigger.only_on_drift:
        places.append(Place(store, "drift", recursive=True))
    return [*places, Place(looker.inbox, "")] if looker.inbox else places


def _listener(loaded: "LoadedSettings", looker: "Looker", wakes: "Wakes", address: tuple[str, int]) -> "Listener":
    from rewardloop.operation.listener import Listener
    from rewardloop.operation.signatures import Secrets
    from rewardloop.operation.webhooks import make_app

    app = make_app(
        loaded.settings.webhook,
        Secrets.read(os.environ),
        looker.store.storage,
        wake=wakes.add,
        approve=lambda wanted, request_id: _approved(loaded, wanted, request_id),
        say=_say,
    )
    return Listener(app, *address)


def _approved(loaded: "LoadedSettings", wanted: "Approval", request_id: str) -> str:
    """Approve a version as ``rewardloop approve`` does, and say what came of it.

    Raises:
        RewardloopError: it is refused.
        ConnectionError: MLflow does not answer; the request may be sent again.
    """
    from rewardloop.cli.retraining import absolute
    from rewardloop.storage import Storage
    from rewardloop.tracking.connection import connect
    from rewardloop.tracking.projection import project
    from rewardloop.tracking.promotion import approve

    settings = loaded.settings
    store, home = absolute(settings.store.url), Path(settings.home).resolve()
    uri = settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    try:
        tracking_uri = connect(uri, home, settings.tracking.timeout_seconds)
    except RewardloopError as error:
        raise ConnectionError(str(error)) from error

    def compare(candidate: str, champion: str) -> "Sequence[Check]":
        from rewardloop.operation.recomparison import comparison  # torch, which few approvals need

        return comparison(settings, store, tracking_uri)(candidate, champion)

    record = approve(
        settings.policy_name if wanted.policy else settings.model_name,
        wanted.version,
        by=wanted.name,
        reason=f"{wanted.reason} (request {request_id})",
        store=store,
        tracking_uri=tracking_uri,
        compare=compare,
    )
    try:
        project(settings.model_name, Storage.open(store), tracking_uri)
    except RewardloopError as error:
        _say(f"MLflow's aliases were not set, whoever reads them next repairs them: {error}")
    return f"{record.name} version {record.version} is the champion since {record.at}"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise BadInputError(f"--listen {text!r}: expected HOST:PORT, 127.0.0.1:8090 for example")
    return host, int(port)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Wherever the watch is, it can be left: what is half done is gone on with by the next trigger."""
    del number, frame
    raise KeyboardInterrupt


def _say(line: str) -> None:
    """The log of a watch. On stderr: while a pipeline runs, stdout is its."""
    _log.info("%s", line)
