"""``rewardloop gc``: remove what nobody needs any more.

In: the configuration. Out: what was removed, or with ``--dry-run`` would be, and how much space that is.
"""

from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings


def gc(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove old runs' folders, their steps' outputs and checkpoints, old versions, and what killed writers left.

    Limits are in the section housekeeping.

    Kept for ever: feedback, golden set, history, claims; every version with an alias, that a policy was aligned to, or
    that waits for approval. Nothing is removed while a run is under way.
    """
    from rewardloop.cli.promote import connected
    from rewardloop.operation.housekeeping import plan, remove
    from rewardloop.storage import Storage

    settings = read_settings(config, overrides).settings
    storage = Storage.open(settings.store.url)
    uri = connected(settings)
    wanted = plan(settings, storage, uri)
    if wanted.blocked:
        typer.echo(f"Nothing is removed: {wanted.blocked}")
        return
    for item in wanted.items:
        typer.echo(f"{_size(item.size):>10}  {item.what}")
    freed = wanted.items if dry_run else remove(wanted, settings, storage, uri)
    kept = len(wanted.items) - len(freed)
    told = f"{len(freed):,} things, {_size(sum(item.size for item in freed))}"
    typer.echo(f"Would remove {told}; nothing was changed" if dry_run else f"Removed {told}")
    if kept:
        typer.echo(f"{kept:,} were needed again meanwhile, or could not be removed, and stay")


def _size(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit has no end")
