"""``rewardloop config``: check a configuration, see where every value comes from, print the reference of all."""

from pathlib import Path
from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Overrides, Profile, read_settings
from rewardloop.config import flatten, without_password

app = typer.Typer(help="Check a configuration.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Check a configuration."""


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="The YAML configuration.")] = DEFAULT_CONFIG,
    overrides: Overrides = None,
    profile: Profile = None,
) -> None:
    """List every mistake at once, or every value with its origin."""
    loaded = read_settings(path, overrides, profile)
    values = dict(flatten(loaded.settings.model_dump(mode="json")))
    width = max(map(len, values))
    for key, value in values.items():
        typer.echo(f"{key:<{width}}  {without_password(str(value)):<28}  {loaded.origins[key]}")
    typer.echo(f"\n{path}: valid; training settings {loaded.digest[:12]}")


@app.command("reference")
def print_reference() -> None:
    """Print every setting with its type, default and meaning, as Markdown."""
    from rewardloop.cli.config_reference import reference

    typer.echo(reference(), nl=False)
