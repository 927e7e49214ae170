"""``rewardloop drift``: are answers still like those that the threshold was certified on?

In: the champion's registered reference, logged decisions, labels that came later. Out: a table, a report in the store
and as HTML, a notice, and exit code 4 where something drifted.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.cli.registered import find_version
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.evidence import Estimate
    from rewardloop.operation.drift_reports import DriftReport

EXIT_CODE = 4
_SHOWN = 5


def drift(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    version: Annotated[str, typer.Option(help="Version or alias of the reward model.")] = "champion",
    days: Annotated[
        float | None, typer.Option(min=0, help="Decisions of the last so many days; drift.days by default.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the HTML report goes; under home/drift by default.")
    ] = None,
) -> None:
    """Compare logged decisions with the version's reference; exit code 4 when they have drifted."""
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.operation.drift_check import check_drift, registered_reference
    from rewardloop.operation.drift_page import headline, render_drift
    from rewardloop.operation.drift_reports import keep_report

    settings = read_settings(config, overrides).settings
    model, uri = find_version(config, overrides, version)
    number = model.rpartition("/")[2]
    now = datetime.now(UTC)
    store = FeedbackStore.open(settings.store.url)
    found = check_drift(
        settings,
        store,
        version=number,
        reference=registered_reference(model, uri),
        since=_since(now, settings.drift.days if days is None else days),
        at=now,
    )
    page = report or Path(settings.home) / "drift" / f"{number}-{now:%Y%m%dT%H%M%S}.html"
    _write(page, render_drift(found))
    name = keep_report(store.storage, found)
    _show(found)
    typer.echo(f"report {page}, kept as {store.storage.path(name)}")
    typer.echo(headline(found))
    if found.drifted:
        from rewardloop.reporting.notifications import notify

        body = "\n".join([*found.reasons[:_SHOWN], f"report: {page}"])
        notify(settings.notifications, "drift", headline(found), body)
        raise typer.Exit(EXIT_CODE)


def _since(now: datetime, days: float) -> datetime:
    try:
        return now - timedelta(days=days)
    except OverflowError as error:
        raise BadInputError(f"--days {days:g}: is before the calendar begins; name fewer (or in drift.days)") from error


def _write(page: Path, content: str) -> None:
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(content, encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"--report {page}: {error.strerror or error}; name a file that can be written") from error


def _show(found: "DriftReport") -> None:
    typer.echo(
        f"{found.model} version {found.version}: {found.decisions:,} decisions since {found.since:%Y-%m-%d %H:%M} UTC, "
        f"{found.unscored:,} without a score; reference of {found.reference:,} answers"
    )
    typer.echo(f"  {'what':16}{'segment':18}{'reference':>10}{'decisions':>11}{'index':>8}{'p':>10}")
    for line in found.distributions:
        start = f"  {line.what:16}{(line.segment or 'all')[:17]:18}{line.reference:>10,}{line.decisions:>11,}"
        said = line.note or f"{line.psi:>8.3f}{line.corrected:>10.2g}  {'DRIFTED' if line.drifted else ''}"
        typer.echo(f"{start}  {said}" if line.note else f"{start}{said}".rstrip())
    for share in found.accepted:
        if share.then and share.now:
            where = (share.segment or "all")[:17]
            typer.echo(f"  accepted share  {where:18}then {_interval(share.then)}, now {_interval(share.now)}")
    typer.echo(f"  late labels: {found.late.acceptability}")
    for late in found.late.lines:
        if late.disagreement:
            where, mark = (late.segment or "all")[:17], "  DRIFTED" if late.drifted else ""
            typer.echo(f"  disagreement    {where:18}{_interval(late.disagreement)} of {late.labeled:,}{mark}")
    for reason, number in found.late.left_out.items():
        typer.echo(f"    left out: {number:,} ({reason})")
    if found.broken:
        typer.echo(f"  {len(found.broken):,} lines of the log are not decisions:", err=True)
        for place in found.broken[:_SHOWN]:
            typer.echo(f"    {place}", err=True)
    for reason in found.reasons:
        typer.echo(f"  {reason}")


def _interval(share: "Estimate") -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"
