"""The graphs that ship with the wheel, and how a deployed version says which of them it is.

In: a pipeline's name, the section ``placement``. Out: the compiled graph; the mark in a version's description by which
``rewardloop submit`` knows the version that was made of this graph for this placement. A placed graph can be compiled
in a checkout only, and a pod that submits has none: it starts what ``python -m pipelines deploy`` brought there.
"""

import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING

from rewardloop.config import PlacementSettings
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.cli.kubeflow import Kubeflow, Version

_DIGITS = 12


def shipped(name: str) -> str:
    """The graph ``compiled/<name>.yaml``."""
    return (files("rewardloop") / "compiled" / f"{name}.yaml").read_text(encoding="utf-8")


def deployed_name(name: str) -> str:
    """Name of the pipeline on an endpoint."""
    return f"rewardloop-{name}"


def digest_of(text: str) -> str:
    """Short digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def mark(name: str, placement: PlacementSettings) -> str:
    """What the description of a version holds that was made of this library's graph for this placement."""
    return f"graph {digest_of(shipped(name))}, placement {digest_of(_canonical(placement))}"


def deployed_version(kubeflow: "Kubeflow", name: str, placement: PlacementSettings) -> "Version":
    """The version on the endpoint that was made of this library's graph for this placement.

    Raises:
        BadInputError: there is none.
    """
    wanted = mark(name, placement)
    version = kubeflow.marked_version(deployed_name(name), wanted)
    if version is None:
        raise BadInputError(
            f"placement: no version of {deployed_name(name)} on the endpoint was made of this rewardloop's graph for "
            f"this placement ({wanted}); bring it there from a checkout of the same commit: python -m pipelines deploy"
        )
    return version


def _canonical(placement: PlacementSettings) -> str:
    # A pod has it from JSON with sorted keys, a checkout from YAML in whatever order.
    return json.dumps(placement.model_dump(mode="json"), sort_keys=True)
