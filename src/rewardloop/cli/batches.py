"""``rewardloop batches`` and ``rewardloop accept``: what the store holds, and letting a refused batch in after all."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings


def batches(config: Config = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """List every ingested batch, and which of them the next run leaves out."""
    from rewardloop.feedback.store import FeedbackStore

    settings = read_settings(config, overrides).settings
    store = FeedbackStore.open(settings.store.url)
    manifests = store.batches()
    if not manifests:
        typer.echo(f"{settings.store.url}: no batch yet")
        return
    for manifest in manifests:
        reasons, by = store.refusal(manifest.digest), store.accepted_by(manifest.digest)
        state = f"accepted by {by}" if by else f"refused: {'; '.join(reasons)}" if reasons else "in"
        typer.echo(
            f"{manifest.digest[:12]}  {manifest.ingested_at}  {manifest.groups:>8,} groups  "
            f"{', '.join(source.name for source in manifest.sources)}  {state}"
        )


def accept(
    batch: Annotated[str, typer.Argument(help="Digest of a refused batch, or its beginning.")],
    reason: Annotated[str, typer.Option(help="Why it may be used in spite of what validation found.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    by: Annotated[str | None, typer.Option(help="Who decides; your user name by default.")] = None,
) -> None:
    """Let a refused batch into the next corpus; who and why are kept for ever."""
    from rewardloop.feedback.store import FeedbackStore

    settings = read_settings(config, overrides).settings
    store = FeedbackStore.open(settings.store.url)
    digest = store.batch(batch).digest
    store.accept(digest, by=by or getpass.getuser(), reason=reason)
    typer.echo(f"batch {digest[:12]} is in from the next run on: rewardloop run -c {Path(config)}")
