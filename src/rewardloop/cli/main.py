"""The ``rewardloop`` command. Every error a user can meet is one clear message and an exit code, never a traceback.

Exit codes: 0 done, 1 failed, 2 bad input, 3 the candidate was not blessed, 4 answers have drifted.
"""

import sys

import typer

from rewardloop import __version__
from rewardloop.cli import (
    batches,
    config,
    drift,
    evaluate,
    export_tasks,
    gate,
    gc,
    golden,
    history,
    ingest,
    promote,
    run,
    score,
    serve,
    status,
    submit,
    trigger,
    ui,
)
from rewardloop.cli.environment import set_defaults
from rewardloop.errors import RewardloopError, disk_error

app = typer.Typer(
    name="rewardloop",
    help="From people's feedback to a registered reward model with a guaranteed threshold, and again with every batch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("ingest")(ingest.ingest)
app.command("batches")(batches.batches)
app.command("accept")(batches.accept)
app.command("run")(run.run)
app.command("submit")(submit.submit)
app.command("trigger")(trigger.trigger)
app.command("gate")(gate.gate)
app.command("status")(status.status)
app.command("promote")(promote.promote)
app.command("approve")(promote.approve)
app.command("rollback")(promote.rollback)
app.command("history")(history.history)
app.command("gc")(gc.gc)
app.command("score")(score.score)
app.command("evaluate")(evaluate.evaluate)
app.command("serve")(serve.serve)
app.command("serve-key")(serve.serve_key)
app.command("drift")(drift.drift)
app.command("export-tasks")(export_tasks.export_tasks)
app.command("ui")(ui.ui)
app.add_typer(golden.app, name="golden")
app.add_typer(config.app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rewardloop {__version__}")
        raise typer.Exit


@app.callback()
def rewardloop(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of every command."""


def main() -> None:
    """Entry point of the ``rewardloop`` script."""
    set_defaults()
    try:
        app()
    except RewardloopError as error:
        typer.echo(f"rewardloop: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        clear = disk_error(error)
        if clear is None:
            raise
        typer.echo(f"rewardloop: {clear}", err=True)
        sys.exit(clear.exit_code)


if __name__ == "__main__":
    main()
