"""Options that several commands share, and how they become settings."""

from pathlib import Path
from typing import Annotated

import typer

from rewardloop.config import LoadedSettings, load_settings

Config = Annotated[
    Path, typer.Option("--config", "-c", envvar="REWARDLOOP_CONFIG", help="The YAML configuration.", show_default=True)
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; repeatable.")
]
DEFAULT_CONFIG = Path("rewardloop.yaml")


def read_settings(config: Path, overrides: list[str] | None) -> LoadedSettings:
    """The checked settings of ``config`` with ``overrides`` applied."""
    return load_settings(config, overrides or [])
