"""``rewardloop history``: every promotion and rollback, who, when and why.

In: the store's history. Out: printed, as a table or as JSON.
"""

import json
from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings


def history(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    policy: Annotated[bool, typer.Option("--policy", help="The policy instead of the reward model.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Show who made which version the champion, when, why, in place of which, and with which threshold."""
    from rewardloop.storage import Storage
    from rewardloop.tracking.history import History, rolled_back

    settings = read_settings(config, overrides).settings
    name = settings.policy_name if policy else settings.model_name
    records = History(Storage.open(settings.store.url), name).records()
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
        return
    if not records:
        typer.echo(f"{name}: nothing was promoted yet; start with: rewardloop run")
        return
    left = rolled_back(records)
    typer.echo(f"{name}\n{'no':>4}  {'when':<25} {'what':<9} {'from':>5} {'to':>5} {'threshold':>9}  who: why")
    for record in records:
        threshold = "-" if record.threshold is None else f"{record.threshold:+.3f}"
        marks = " [FORCED]" if record.forced else ""
        if left.get(record.version, 0) > record.sequence:
            marks += f" [rolled back by {left[record.version]}]"
        typer.echo(
            f"{record.sequence:>4}  {record.at:<25} {record.action:<9} {record.previous or '-':>5} {record.version:>5} "
            f"{threshold:>9}  {record.who}: {record.why}{marks}"
        )
    if not policy and left:
        typer.echo(
            f"Rolled back from: version {', '.join(sorted(left, key=int))}; rewardloop status shows policies aligned "
            "to them"
        )
