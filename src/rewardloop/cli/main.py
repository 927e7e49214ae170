"""The ``rewardloop`` command. Every error a user can meet is one clear message and an exit code, never a traceback.

Exit codes: 0 done, 1 failed, 2 bad input, 3 the candidate was not blessed, 4 answers have drifted.
"""

import logging
import sys
from typing import ClassVar

import typer

from rewardloop import __version__
from rewardloop.cli.environment import set_defaults
from rewardloop.cli.lazy import Commands, LazyGroup
from rewardloop.errors import RewardloopError, disk_error
from rewardloop.logs import set_up_logging


class _Commands(LazyGroup):
    """Every command, in the order in which a user meets them."""

    table: ClassVar[Commands] = {
        "doctor": ("doctor:doctor", "Check that nothing is missing: store, MLflow, base model, machine, cluster."),
        "ingest": ("ingest:ingest", "Take a batch of feedback into the store."),
        "judge": ("judge:judge", "Let a model or programs label answers, marked as what they are."),
        "batches": ("batches:batches", "List every batch, and which of them the next run leaves out."),
        "accept": ("batches:accept", "Let a refused batch into the next corpus."),
        "run": ("run:run", "Retrain on all feedback, and register the result if it passes the gate."),
        "submit": ("submit:submit", "Start one retraining on Kubeflow Pipelines."),
        "trigger": ("trigger:trigger", "Take the inbox, and retrain when it is due."),
        "gate": ("gate:gate", "Judge a finished run again by the configured limits."),
        "status": ("status:status", "Show what waits, what runs, who is champion, what comes next."),
        "metrics": ("metrics:metrics", "Print the state of the loop as figures for Prometheus."),
        "promote": ("promote:promote", "Make a blessed version the champion."),
        "approve": ("promote:approve", "Make a version that waits for approval the champion."),
        "rollback": ("promote:rollback", "Go back to the champion before, at once."),
        "history": ("history:history", "Show who made which version the champion, when and why."),
        "forget": ("forget:forget", "Remove a labeler or a text from everything, and never take it again."),
        "gc": ("gc:gc", "Remove old runs and versions."),
        "score": ("score:score", "Score answers with the organization's own reward model."),
        "evaluate": ("evaluate:evaluate", "Measure a language model's answers by a registered reward model."),
        "serve": ("serve:serve", "Serve scores and decisions over HTTP, following the champion."),
        "serve-key": ("serve:serve_key", "Make an API key for the server."),
        "drift": ("drift:drift", "Compare logged decisions with the version's reference."),
        "sample-responses": ("sample_responses:sample_responses", "Make responses to prompts for people to judge."),
        "export-tasks": ("export_tasks:export_tasks", "Write tasks for people to judge in Label Studio."),
        "export": ("export:export", "Write labeled feedback for other tools."),
        "ui": ("ui:ui", "Open MLflow's pages on this configuration's runs and models."),
        "golden": ("golden:app", "Look after the golden set, which is never trained on."),
        "config": ("config:app", "Check a configuration, or print the reference of all settings."),
    }


app = typer.Typer(
    name="rewardloop",
    cls=_Commands,
    help="From people's feedback to a registered reward model with a guaranteed threshold, and again with every batch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing the library for frames takes longer than most commands
)


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
    json_lines = False
    try:
        json_lines = set_up_logging()
        app()
    except RewardloopError as error:
        _fail(error, json_lines)
    except OSError as error:
        clear = disk_error(error)
        if clear is None:
            raise
        _fail(clear, json_lines)


def _fail(error: RewardloopError, json_lines: bool) -> None:
    if json_lines:
        logging.getLogger("rewardloop").error(str(error), extra={"fields": {"exit_code": error.exit_code}})
    else:
        typer.echo(f"rewardloop: {error}", err=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
