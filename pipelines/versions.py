"""What a cluster is given: each pipeline's graph, placed, and the name of that version.

In: a checkout and the settings. Out: packages named ``<commit>-<digest>``: the commit says where the graph comes from
(and "dirty" where files differ from it), the digest of the compiled text makes equal what is equal.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipelines.compile import PIPELINES, compiled
from rewardloop import __version__
from rewardloop.cli.graphs import digest_of, mark, shipped
from rewardloop.config import PlacementSettings
from rewardloop.errors import BadInputError


@dataclass(frozen=True)
class Package:
    """One version of one pipeline."""

    pipeline: str
    version: str
    text: str
    """The compiled graph."""
    description: str
    """For people, with the mark by which ``rewardloop submit`` knows the version."""


def package(name: str, placement: PlacementSettings) -> Package:
    """Compile and name one pipeline.

    Raises:
        BadInputError: the graph that ships with the library is not the one that its sources give; an image made of it
            would not know what was deployed.
    """
    if shipped(name) != compiled(PIPELINES[name]):
        raise BadInputError(
            f"src/rewardloop/compiled/{name}.yaml is not what pipelines/ and components/ give; run: python -m "
            "pipelines compile"
        )
    text = compiled(PIPELINES[name], placement)
    at = commit()
    return Package(
        pipeline=name,
        version=f"{at}-{digest_of(text)}",
        text=text,
        description=f"rewardloop {__version__}, commit {at}; {mark(name, placement)}",
    )


def commit() -> str:
    """The checkout's commit, with ``-dirty`` where files differ from it; ``unknown`` outside a git checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  git
    return asked.stdout.strip() or "unknown"
