"""``python -m pipelines compile``: refresh the compiled pipelines after a change of a graph or a component.

``python -m pipelines deploy -c CONFIG``: bring them to a Kubeflow Pipelines endpoint, with the recurring run.
"""

import sys

import typer

from pipelines.compile import COMPILED, compile_to
from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import RewardloopError

app = typer.Typer(
    help="Compile and deploy rewardloop's pipelines.", add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def pipelines() -> None:
    """Compile and deploy rewardloop's pipelines."""


@app.command("compile")
def compile_all() -> None:
    """Write src/rewardloop/compiled/*.yaml."""
    for file in compile_to(COMPILED):
        typer.echo(f"wrote {file}")


@app.command("deploy")
def deploy_all(config: Config = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Upload new versions and create or replace the recurring run; what is there already stays as it is.

    The endpoint is the one that KF_PIPELINES_ENDPOINT names.
    """
    from datetime import UTC, datetime

    from pipelines.deploy import deploy
    from rewardloop.operation.schedule import next_start

    loaded = read_settings(config, overrides)
    done = deploy(loaded)
    for name, version in done.versions.items():
        typer.echo(f"pipeline rewardloop-{name}: version {version} {_state(name in done.uploaded, 'uploaded')}")
    typer.echo(f"recurring run {done.recurring_run}: {_state(done.created, 'created')}")
    for other in done.deleted:
        typer.echo(f"recurring run {other}: deleted, the new one has its place")
    schedule = loaded.settings.schedule
    start = f"{next_start(schedule.cron, datetime.now(UTC)):%Y-%m-%d %H:%M:%S} UTC"
    typer.echo(f"next start: {start if schedule.enabled else 'none, schedule.enabled is false'}")


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
