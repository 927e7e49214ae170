"""``rewardloop metrics``: the state of the loop for Prometheus.

In: the configuration. Out: its text format on stdout, or a file for the textfile collector of the node exporter, which
is replaced whole. MLflow is not asked: the figures come from the feedback store and the folders of runs, so that they
are there, and quick, also while it is away.
"""

from pathlib import Path
from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError


def metrics(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(help="Write here, whole or not at all: FOLDER/rewardloop.prom of the collector.")
    ] = None,
) -> None:
    """Print last success, outcomes, age of the champion, new labels and drift as figures for Prometheus."""
    from rewardloop.cli.parameters import config_digest
    from rewardloop.cli.text_sets import keep_text_sets
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.operation.claim_files import read_claims
    from rewardloop.operation.run_metrics import run_metrics
    from rewardloop.operation.status import status
    from rewardloop.storage import Storage

    loaded = read_settings(config, overrides)
    store = FeedbackStore.open(loaded.settings.store.url)
    problems: list[str] = []
    digest = None
    try:
        digest = config_digest(loaded, keep_text_sets(loaded.settings, store.storage))
    except BadInputError as error:  # a file of texts that is gone hides nothing else
        problems.append(str(error))
    report = status(loaded.settings, store, digest, None)
    report.problems += problems
    claims = read_claims(store.storage, now=report.at, lease_seconds=loaded.settings.claims.lease_seconds)
    text = run_metrics(report, claims)
    if output is None:
        typer.echo(text.decode(), nl=False)
    else:
        place = Storage.open(str(output.resolve().parent))
        place.write(output.name, text)
