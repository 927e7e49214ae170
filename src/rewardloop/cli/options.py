"""Options that several commands share, and how they become settings."""

from pathlib import Path
from typing import Annotated

import typer

from rewardloop.config import PROFILES, LoadedSettings, load_settings

Config = Annotated[
    Path, typer.Option("--config", "-c", envvar="REWARDLOOP_CONFIG", help="The YAML configuration.", show_default=True)
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; repeatable.")
]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(PROFILES),
        help="Batch, precision and sharding for this hardware, where nothing else sets them.",
    ),
]
DEFAULT_CONFIG = Path("rewardloop.yaml")


def read_settings(config: Path, overrides: list[str] | None, profile: str | None = None) -> LoadedSettings:
    """The checked settings of ``config`` with ``overrides``, and with ``profile`` where neither says anything."""
    return load_settings(config, overrides or [], profile)
