"""What a rewardloop process needs in its environment before any library is imported.

Steps run as children of the command line and inherit all of it.
"""

import os
from pathlib import Path

_DEFAULTS = {
    # rewardloop sends nothing anywhere, and neither do its libraries, unless the user says so.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # Spinning threads cost several times the work on shared cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}


def set_defaults() -> None:
    """Set each variable that the user has not set."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def set_for_run(home: Path, run_dir: Path) -> None:
    """Set what the steps of one run find their places by."""
    temporary = run_dir / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        REWARDLOOP_HOME=str(home),
        REWARDLOOP_RUN_DIR=str(run_dir),
        PYTHONUNBUFFERED="1",
        # Steps run with "python -m": without this the current folder could shadow a library.
        PYTHONSAFEPATH="1",
        # KFP leaves a temporary folder per step behind.
        TMPDIR=str(temporary),
    )
