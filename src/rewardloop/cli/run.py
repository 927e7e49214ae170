"""``rewardloop run``: retrain on everything in the store, if there is something new.

In: settings and the store's current corpus. Out: what ``retraining`` makes of them, and its exit code.
"""

from typing import Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, Profile, read_settings


def run(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    profile: Profile = None,
    again: Annotated[
        str | None, typer.Option(metavar="REASON", help="Train although this corpus was trained with these settings.")
    ] = None,
) -> None:
    """Retrain on all feedback, and register the result if it passes the gate; a run that was killed goes on.

    Exit codes: 0 blessed, nothing new, or another process is at it; 1 a step failed; 2 bad input; 3 not blessed.
    """
    from rewardloop.cli.retraining import retrain

    done = retrain(read_settings(config, overrides, profile), reason="started by hand: rewardloop run", again=again)
    raise typer.Exit(done.exit_code)
