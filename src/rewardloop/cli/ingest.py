"""``rewardloop ingest``: files of feedback become one immutable batch of the store."""

import os
from pathlib import Path
from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError


def ingest(
    files: Annotated[list[Path], typer.Argument(help="Feedback: plain, gzip or zip.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help="The format, or auto: decided by content.")] = "auto",
    column: Annotated[
        list[str] | None, typer.Option(metavar="NAME=COLUMN", help="What the file calls a column; repeatable.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the format; repeatable.")
    ] = None,
) -> None:
    """Take a batch of feedback into the store; the same file twice adds nothing.

    Formats, their columns and options: docs/feedback-formats.md.
    """
    from rewardloop.feedback.ingest import ingest as take
    from rewardloop.feedback.pseudonyms import labeler_key
    from rewardloop.feedback.store import FeedbackStore

    settings = read_settings(config, overrides).settings
    key = labeler_key(os.environ.get("REWARDLOOP_LABELER_KEY"), Path(settings.home).resolve() / "labeler.key")
    report = take(
        files,
        FeedbackStore.open(settings.store.url),
        settings,
        key=key,
        format=format,
        options=named_values("--option", option),
        columns=named_values("--column", column),
        say=typer.echo,
        progress=True,
    )
    typer.echo(report.summary)
    for reason in report.reasons:
        typer.echo(f"  quarantined: {reason}")


def named_values(flag: str, values: list[str] | None) -> dict[str, str]:
    result = {}
    for value in values or []:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise BadInputError(f"{flag} {value!r}: expected NAME=VALUE")
        result[name] = text
    return result
