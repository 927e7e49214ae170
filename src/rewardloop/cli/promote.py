"""``rewardloop promote``, ``approve`` and ``rollback``: people decide who the champion is.

In: a version, who decides and why. Out: the next record of the history; MLflow's aliases follow it.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.config import Settings
from rewardloop.errors import RewardloopError

if TYPE_CHECKING:
    from rewardloop.evidence import Check
    from rewardloop.tracking.history import HistoryRecord
    from rewardloop.tracking.promotion import Compare

Version = Annotated[str, typer.Argument(metavar="VERSION", help="Number of a registered version.")]
Policy = Annotated[bool, typer.Option("--policy", help="The policy instead of the reward model.")]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides; your user name by default.")]


def promote(
    version: Version,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    reason: Annotated[str, typer.Option(help="Why, for those who read the history.")] = "promoted by hand",
    by: By = None,
    force: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="In spite of the gate, and marked in the history for ever: why."),
    ] = None,
    policy: Policy = False,
) -> None:
    """Make a blessed version the champion; it is compared again where the champion is another than it was judged by.

    Exit codes: 2 there is no such version; 3 it was not blessed, or is worse than the champion of this moment.
    """
    from rewardloop.tracking.promotion import promote as decide

    settings = read_settings(config, overrides).settings
    uri = connected(settings)
    record = decide(
        _name(settings, policy=policy),
        version,
        store=settings.store.url,
        tracking_uri=uri,
        who=by or _user(),
        why=reason,
        compare=_comparing(settings, uri),
        force=force,
    )
    _announce(settings, record, uri)


def approve(
    version: Version,
    reason: Annotated[str, typer.Option(help="Why, for those who read the history.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    by: By = None,
    policy: Policy = False,
) -> None:
    """Make a version that waits for approval (promotion.mode: approval) the champion.

    Exit codes: 2 it does not wait; 3 it was not blessed, or is worse than the champion of this moment.
    """
    from rewardloop.tracking.promotion import approve as decide

    settings = read_settings(config, overrides).settings
    uri = connected(settings)
    record = decide(
        _name(settings, policy=policy),
        version,
        by=_user() if by is None else by,
        reason=reason,
        store=settings.store.url,
        tracking_uri=uri,
        compare=_comparing(settings, uri),
    )
    _announce(settings, record, uri)


def rollback(
    reason: Annotated[str, typer.Option(help="Why, for those who read the history.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    to: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Any version that once was champion.", show_default="previous")
    ] = None,
    by: By = None,
    policy: Policy = False,
) -> None:
    """Go back to the champion before, at once and without a comparison; its threshold comes with it.

    Whoever follows the history (rewardloop serve, score, run) is on it from now on; MLflow's aliases follow in seconds.
    """
    from rewardloop.tracking.promotion import rollback as decide

    settings = read_settings(config, overrides).settings
    uri = _place(settings)
    name = _name(settings, policy=policy)
    record = decide(name, store=settings.store.url, tracking_uri=uri, who=by or _user(), why=reason, to=to)
    _show(record)
    # MLflow takes longer to start than a rollback may; whoever reads the champion next repairs the aliases anyway.
    arguments = [settings.model_name, settings.store.url, uri]
    subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "rewardloop.tracking.projection", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _comparing(settings: Settings, uri: str) -> "Compare":
    """The comparison, with its result shown; torch is loaded only where something is compared."""

    def compare(candidate: str, champion: str) -> "list[Check]":
        from rewardloop.operation.recomparison import compare_versions

        typer.echo(f"Comparing version {candidate} with version {champion}, the champion of this moment")
        checks = compare_versions(settings, settings.store.url, uri, candidate=candidate, champion=champion)
        for check in checks:
            typer.echo(f"  {'passed' if check.passed else 'FAILED'}  {check.reason}")
        return checks

    return compare


def _announce(settings: Settings, record: "HistoryRecord", uri: str) -> None:
    from rewardloop.storage import Storage
    from rewardloop.tracking.outage import first_line
    from rewardloop.tracking.projection import project

    _show(record)
    try:
        flagged = project(settings.model_name, Storage.open(settings.store.url), uri)
    except RewardloopError as error:
        why = first_line(error)
        typer.echo(f"Warning: MLflow's aliases were not set, the next command repairs them: {why}", err=True)
        return
    for version in flagged:
        typer.echo(f"{settings.policy_name} version {version} is aligned to a reward model that was rolled back")


def _show(record: "HistoryRecord") -> None:
    threshold = "no threshold" if record.threshold is None else f"threshold {record.threshold:+.3f}"
    before = f"after version {record.previous}" if record.previous else "the first"
    typer.echo(f"{record.name} version {record.version} is the champion, {before}; {threshold}")
    forced = ", FORCED" if record.forced else ""
    typer.echo(f"  {record.at}  {record.action}{forced} by {record.who}: {record.why}")


def _name(settings: Settings, *, policy: bool) -> str:
    return settings.policy_name if policy else settings.model_name


def _user() -> str:
    from rewardloop.tracking.history import this_user

    return this_user()


def connected(settings: Settings) -> str:
    """URI of a tracking server that answered, or of a file that exists."""
    from rewardloop.tracking.connection import connect

    return connect(
        settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI"),
        Path(settings.home).resolve(),
        settings.tracking.timeout_seconds,
    )


def _place(settings: Settings) -> str:
    """Where MLflow is, as ``connect`` says it, but without asking: that takes longer than a rollback may."""
    from rewardloop.tracking.connection import keep_password

    uri = settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        return f"sqlite:///{Path(settings.home).resolve() / 'mlflow.db'}"
    uri = keep_password(uri)
    file = uri.removeprefix("sqlite:///")
    return uri if file == uri else f"sqlite:///{Path(file).resolve()}"
