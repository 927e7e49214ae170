"""``rewardloop golden``: fresh groups for the golden set, and how worn it is."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.cli.reading import Column, Format, Importer, Map, Option, reading_options
from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import Estimate

if TYPE_CHECKING:
    from rewardloop.feedback.golden import Generation

app = typer.Typer(help="The golden set: never trained on, and worn by every look at it.", no_args_is_help=True)


@app.callback()
def golden() -> None:
    """The golden set: never trained on, and worn by every look at it."""


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(help="Feedback on new prompts: plain, gzip or zip.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    format: Format = "auto",
    map: Map = None,
    column: Column = None,
    option: Option = None,
    importer: Importer = None,
) -> None:
    """Take new groups into the golden set; groups that a batch has already are refused.

    Formats are those of: rewardloop ingest.
    """
    from rewardloop.feedback.golden_intake import add_golden
    from rewardloop.feedback.pseudonyms import store_key
    from rewardloop.feedback.store import FeedbackStore

    settings = read_settings(config, overrides).settings
    key = store_key(settings.home)
    report = add_golden(
        files,
        FeedbackStore.open(settings.store.url),
        settings,
        key=key,
        say=typer.echo,
        progress=True,
        **reading_options(format, map, column, option, importer),
    )
    typer.echo(report.summary)
    for reason in report.reasons:
        typer.echo(f"  {reason}")


@app.command()
def show(config: Config = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Show the golden set's generations, how often each was used, and whether fresh labels are due."""
    from rewardloop.evaluation.golden_wear import fresh_due, level_of_use
    from rewardloop.feedback.golden import generations
    from rewardloop.feedback.store import FeedbackStore

    settings = read_settings(config, overrides).settings
    found = generations(FeedbackStore.open(settings.store.url).storage)
    if not found:
        typer.echo(f"{settings.store.url}: no golden set yet; the first ingest sets it aside")
        return
    for number, one in enumerate(found, start=1):
        state = "in use" if one.in_use else "not used any more" if one.documents else "left out with its batch"
        size = f"{len(one.documents):>8,} documents"
        typer.echo(
            f"generation {number}  {one.added_at:%Y-%m-%d}  batch {one.batch[:12]}  {size}  used {one.uses:,} times  "
            f"{state}"
        )
    used = [one for one in found if one.in_use]
    uses, confidence = max((one.uses for one in used), default=0), settings.evaluation.confidence
    typer.echo(f"The next use is number {uses + 1:,}, judged at level {level_of_use(confidence, uses + 1):.4f}.")
    due = fresh_due(
        uses,
        allowed=settings.gate.golden_uses,
        difference=_latest_difference(settings, used),
        documents=sum(len(one.documents) for one in used),
        margin=settings.gate.not_worse_than_champion_by,
        confidence=confidence,
    )
    typer.echo(due or f"Fresh golden labels are due at use {settings.gate.golden_uses:,}.")


def _latest_difference(settings: Settings, used: "list[Generation]") -> Estimate | None:
    """What the newest run measured on the golden set; None where it has changed since."""
    from rewardloop.cli.gate import find_run

    try:
        run = find_run(Path(settings.home).resolve() / "runs", None)
    except BadInputError:  # nothing was evaluated here yet
        return None
    changed = max((one.added_at for one in used), default=None)
    if changed is None or datetime.fromisoformat(run.run.started_at) < changed:
        return None
    champion = run.evaluation.champion if run.evaluation else None
    return champion.golden_difference if champion else None
