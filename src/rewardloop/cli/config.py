"""``rewardloop config``: check a configuration and see where every value comes from."""

from pathlib import Path
from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Overrides, read_settings
from rewardloop.config import flatten

app = typer.Typer(help="Check a configuration.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Check a configuration."""


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="The YAML configuration.")] = DEFAULT_CONFIG, overrides: Overrides = None
) -> None:
    """List every mistake at once, or every value with its origin."""
    loaded = read_settings(path, overrides)
    values = dict(flatten(loaded.settings.model_dump(mode="json")))
    width = max(map(len, values))
    for key, value in values.items():
        typer.echo(f"{key:<{width}}  {value!s:<28}  {loaded.origins[key]}")
    typer.echo(f"\n{path}: valid; training settings {loaded.digest[:12]}")
