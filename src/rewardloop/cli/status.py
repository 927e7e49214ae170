"""``rewardloop status``: what waits, what runs, who is champion, what comes next.

In: the configuration. Out: a table, or the same as JSON.
"""

from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError


def status(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Show new labels, claims, runs, versions with aliases and thresholds, approvals, drift and the next start."""
    from rewardloop.cli.parameters import config_digest
    from rewardloop.cli.promote import connected
    from rewardloop.cli.text_sets import keep_text_sets
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.operation.status import status as look
    from rewardloop.operation.status_table import table

    loaded = read_settings(config, overrides)
    store = FeedbackStore.open(loaded.settings.store.url)
    problems: list[str] = []
    digest = uri = None
    try:
        digest = config_digest(loaded, keep_text_sets(loaded.settings, store.storage))
    except BadInputError as error:  # a file of texts that is gone hides nothing else
        problems.append(str(error))
    try:
        uri = connected(loaded.settings)
    except BadInputError as error:
        problems.append(str(error))
    report = look(loaded.settings, store, digest, uri)
    report.problems[:0] = problems
    typer.echo(report.model_dump_json(indent=1) if as_json else table(report))
