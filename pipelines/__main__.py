"""``python -m pipelines``: what tells a cluster about the graphs; needs a checkout.

``compile``: refresh the compiled pipelines after a change of a graph or a component; with ``--kubernetes FOLDER`` write
Kubernetes objects instead. ``deploy``: bring the pipelines to a Kubeflow Pipelines endpoint, with the recurring run.
``schedule``: the recurring run alone. ``undeploy``: take both away.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipelines.compile import COMPILED, compile_to
from rewardloop.cli.graphs import deployed_name
from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, Profile, read_settings
from rewardloop.config import Settings
from rewardloop.errors import RewardloopError

app = typer.Typer(
    help="Compile, deploy and schedule rewardloop's pipelines.", add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def pipelines() -> None:
    """Compile, deploy and schedule rewardloop's pipelines.

    The endpoint is the one that KF_PIPELINES_ENDPOINT names, or else KFP_ENDPOINT.
    """


@app.command("compile")
def compile_all(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    profile: Profile = None,
    kubernetes: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write Kubernetes objects of --config there instead.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option(help="With --kubernetes: Kubeflow Pipelines as pods reach it.")
    ] = "http://ml-pipeline.kubeflow.svc.cluster.local:8888",
) -> None:
    """Write src/rewardloop/compiled/*.yaml, or with --kubernetes manifests for GitOps."""
    if kubernetes is None:
        files = compile_to(COMPILED)
    else:
        from pipelines.manifests import write_manifests

        files = write_manifests(read_settings(config, overrides, profile), kubernetes, endpoint=endpoint)
    for file in files:
        typer.echo(f"wrote {file}")


@app.command("deploy")
def deploy_all(config: Config = DEFAULT_CONFIG, overrides: Overrides = None, profile: Profile = None) -> None:
    """Upload new versions and create or replace the recurring run; what is there already stays as it is."""
    from pipelines.deploy import deploy

    loaded = read_settings(config, overrides, profile)
    _warn_of_image(loaded.settings)
    done = deploy(loaded)
    for name, version in done.versions.items():
        typer.echo(f"pipeline {deployed_name(name)}: version {version} {_state(name in done.uploaded, 'uploaded')}")
    _say_schedule(loaded.settings, done.schedule.recurring_run, done.schedule.created, done.schedule.deleted)


@app.command("schedule")
def schedule_all(config: Config = DEFAULT_CONFIG, overrides: Overrides = None, profile: Profile = None) -> None:
    """Create or replace the recurring run alone; the pipelines must be there."""
    from pipelines.deploy import schedule

    loaded = read_settings(config, overrides, profile)
    done = schedule(loaded)
    _say_schedule(loaded.settings, done.recurring_run, done.created, done.deleted)


@app.command("undeploy")
def undeploy_all(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    with_pipelines: Annotated[
        bool, typer.Option("--pipelines", help="Delete the pipelines with all their versions too.")
    ] = False,
) -> None:
    """Delete the recurring run; runs, the store and what is registered stay."""
    from pipelines.deploy import undeploy

    done = undeploy(read_settings(config, overrides), pipelines=with_pipelines)
    for one in done.recurring_runs:
        typer.echo(f"recurring run {one}: deleted")
    for name, versions in done.versions.items():
        typer.echo(f"pipeline {name}: deleted, {len(versions)} version(s) with it")
    if not done.recurring_runs and not done.versions:
        typer.echo("nothing of it is there")


def _warn_of_image(settings: Settings) -> None:
    if settings.placement.default.image is None:
        typer.echo(
            "Warning: placement.default.image is not set; steps without an image of their own run in python:3.11-slim, "
            "which does not hold rewardloop",
            err=True,
        )


def _say_schedule(settings: Settings, recurring_run: str, created: bool, deleted: list[str]) -> None:
    from rewardloop.operation.schedule import next_start

    typer.echo(f"recurring run {recurring_run}: {_state(created, 'created')}")
    for other in deleted:
        typer.echo(f"recurring run {other}: deleted, the new one has its place")
    start = f"{next_start(settings.schedule.cron, datetime.now(UTC)):%Y-%m-%d %H:%M:%S} UTC"
    typer.echo(f"next start: {start if settings.schedule.enabled else 'none, schedule.enabled is false'}")


def _state(new: bool, word: str) -> str:
    return word if new else "is there already"


def main() -> None:
    """Errors of a user are one message and an exit code, as those of ``rewardloop``."""
    try:
        app()
    except RewardloopError as error:
        typer.echo(f"pipelines: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
