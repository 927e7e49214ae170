"""What to do next, for whoever ran a run: commands that make sense now."""

import shutil
import sys

from rewardloop.config import LoadedSettings


def next_commands(loaded: LoadedSettings, *, champion: bool) -> str:
    """Lines for the terminal; ``champion``: there is one to be asked."""
    command = "rewardloop" if shutil.which("rewardloop") else sys.argv[0]
    config = f"-c {loaded.path}"
    ask = f'score {config} --text "A quiet film that stays with you for days."' if champion else f"batches {config}"
    return "\n  ".join(
        [
            "Try next:",
            f"{command} {ask}",
            f"{command} ingest MORE_FEEDBACK {config} && {command} run {config}",
            f"{command} ui {config}",
        ]
    )
