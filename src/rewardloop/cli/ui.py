"""``rewardloop ui``: MLflow's own pages on the runs and models of a configuration."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings


def ui(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's pages on this configuration's runs and models (until Ctrl-C)."""
    from rewardloop.tracking.connection import connect

    settings = read_settings(config, overrides).settings
    uri = connect(
        settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI"),
        Path(settings.home).resolve(),
        settings.tracking.timeout_seconds,
    )
    typer.echo(f"MLflow on http://127.0.0.1:{port} for {uri}")
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven idle processes otherwise
    server = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    raise typer.Exit(subprocess.run([sys.executable, *server], check=False).returncode)  # noqa: S603  MLflow's
