"""``rewardloop ingest``: files of feedback become one immutable batch of the store."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.cli.reading import Column, Format, Importer, Map, Option, reading_options
from rewardloop.config import Settings
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.feedback.store import FeedbackStore


def ingest(
    files: Annotated[
        list[Path],
        typer.Argument(help="Feedback: files, plain or packed; saved data sets; hf://datasets/OWNER/NAME[/SPLIT]."),
    ],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    format: Format = "auto",
    map: Map = None,
    column: Column = None,
    option: Option = None,
    importer: Importer = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: show the first records and the counts.")
    ] = False,
) -> None:
    """Take a batch of feedback into the store; the same file twice adds nothing.

    Formats, their columns and options: docs/feedback-formats.md.
    """
    from rewardloop.feedback.ingest import ingest as take
    from rewardloop.feedback.pseudonyms import store_key
    from rewardloop.feedback.store import FeedbackStore

    settings = read_settings(config, overrides).settings
    how = reading_options(format, map, column, option, importer)
    store = FeedbackStore.open(settings.store.url)
    if dry_run:
        _show(files, store, settings, how)
        return
    key = store_key(settings.home)
    report = take(files, store, settings, key=key, say=typer.echo, progress=True, **how)
    typer.echo(report.summary)
    for reason in report.reasons:
        typer.echo(f"  quarantined: {reason}")


def _show(files: list[Path], store: "FeedbackStore", settings: Settings, how: dict[str, Any]) -> None:
    from rewardloop.feedback.dry_run import in_words, look
    from rewardloop.feedback.pseudonyms import KEY_FILE, KEY_VARIABLE, store_key

    known = KEY_VARIABLE in os.environ or (Path(settings.home) / KEY_FILE).exists()
    key = store_key(settings.home) if known else secrets.token_hex(32).encode()
    found = look(files, store, settings, key=key, say=typer.echo, progress=True, **how)
    for line in in_words(found):
        typer.echo(line)
    if not known:
        typer.echo("labelers are shown under names for this dry run only: there is no labeler key yet")
    typer.echo("dry run: nothing was written")
    if found.refusal is not None:
        raise BadInputError(found.refusal)
