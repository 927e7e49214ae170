"""Where the peers run: a virtual environment of their own, and the call of one of their scripts in it.

In: a folder to keep the environment in; the arguments of a peer script. Out: the environment's interpreter; what the
script reports. A peer never shares a process with rewardloop, so that neither's memory or threads count for the other.
"""

import hashlib
import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
_CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
_TRL = "1.16.0"
TRL_WITH_PPO = "1.12.0"
"""The last version of TRL with a PPOTrainer."""
_TAIL_LINES = 30


def peer_python(home: Path, trl: str = _TRL) -> Path:
    """Make the peers' environment under ``home``, once, and return its interpreter.

    Each version of ``trl`` has an environment of its own, with the same versions of everything else. The marker is
    written last, so a killed installation is made anew; so is one of other requirements or constraints.

    Raises:
        CalledProcessError: pip could not install a package; its own words are on stderr.
    """
    folder = home.resolve() / ("peers" if trl == _TRL else f"peers-trl-{trl}")
    python, marker = folder / "bin" / "python", folder / ".installed"
    # One pip call per entry. torch comes first and alone: resolved together with the rest, pip may choose another build
    # of it and download the CUDA libraries.
    requirements = (("torch==2.13.0",), (f"trl=={trl}", "peft", "psutil"))
    # What rewardloop is tested with, but for the peer itself.
    constraints = "".join(line for line in _CONSTRAINTS.read_text().splitlines(True) if not line.startswith("trl=="))
    wanted = _wanted(requirements, constraints)
    if python.exists() and marker.is_file() and marker.read_text() == wanted:
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    # clear=True takes the old marker away before anything is installed.
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=True).create(folder)
    (folder / "constraints.txt").write_text(constraints)
    for together in requirements:
        flags = ["--quiet", "--disable-pip-version-check", "--no-compile", "-c", str(folder / "constraints.txt")]
        subprocess.run([python, "-m", "pip", "install", *flags, *together], env=_environment(), check=True)  # noqa: S603
    marker.write_text(wanted)
    return python


def run_peer(
    python: Path, module_file: Path, arguments: dict[str, Any], *, unset: Collection[str] = ()
) -> dict[str, Any]:
    """Run a peer script with ``arguments`` (as JSON) and return its report, the last line of its stdout.

    Args:
        python: the interpreter of its environment.
        module_file: the script.
        arguments: what it is told.
        unset: environment variables that it does not get.

    Raises:
        RuntimeError: the script failed, or its last line is no JSON object.
    """
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(  # noqa: S603
            [python, module_file.resolve(), json.dumps(arguments)],
            cwd=empty,  # nothing of the repository, and nothing left behind in it
            env={name: value for name, value in _environment().items() if name not in unset},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{module_file.name} ended with code {done.returncode}:\n{_tail(done.stderr)}")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        report = json.loads(last)
    except json.JSONDecodeError:
        report = None
    if not isinstance(report, dict):
        raise RuntimeError(f"{module_file.name}: the last line {last!r} is no JSON object:\n{_tail(done.stderr)}")
    return report


def _wanted(requirements: Iterable[Iterable[str]], constraints: str) -> str:
    lines = [" ".join(together) for together in requirements]
    digest = hashlib.sha256(constraints.encode()).hexdigest()
    return "\n".join([*lines, f"constraints sha256 {digest}"]) + "\n"


def _environment() -> dict[str, str]:
    # A PYTHONPATH of the caller would let the peers import the caller's packages.
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    return inherited | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
