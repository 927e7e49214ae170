"""Compile every pipeline: to the YAML that ships with the wheel, and to what a cluster is given.

In: the graphs, and for a cluster where their steps run. Out: one YAML per pipeline. A name that Kubernetes would read
as a boolean is refused here, before it reaches one.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]
from kfp import compiler

from pipelines.retrain import retrain
from pipelines.retrain_and_align import retrain_and_align
from pipelines.trigger import trigger
from rewardloop.config import PlacementSettings
from rewardloop.errors import BadInputError

PIPELINES = {"retrain": retrain, "retrain-and-align": retrain_and_align, "trigger": trigger}
COMPILED = Path(__file__).parent.parent / "src" / "rewardloop" / "compiled"
BOOLEANS = frozenset({"y", "n", "yes", "no", "on", "off"})
"""What YAML 1.1, and with it Kubernetes' API server, reads as a boolean beside true and false."""


def compile_to(folder: Path, placement: PlacementSettings | None = None) -> list[Path]:
    """Write one ``<pipeline>.yaml`` per pipeline into ``folder`` and return the files.

    Args:
        folder: made where it is missing.
        placement: where steps run; None: left to whoever runs them.

    Raises:
        BadInputError: a parameter or an artifact has a name that Kubernetes reads as a boolean.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, pipeline in PIPELINES.items():
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(compiled(pipeline, placement), encoding="utf-8")
    return files


def compiled(pipeline: Any, placement: PlacementSettings | None = None) -> str:
    """The pipeline as YAML; errors as those of ``compile_to``."""
    wanted = on_cluster(pipeline, placement)
    check_names(wanted.name, json_format.MessageToDict(wanted.pipeline_spec))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"  # the compiler goes by the suffix
        compiler.Compiler().compile(wanted, str(file))
        return file.read_text(encoding="utf-8")


def on_cluster(pipeline: Any, placement: PlacementSettings | None) -> Any:
    """The pipeline with every task placed, or as it is where there is no placement.

    Raises:
        BadInputError: what places a task is not installed.
    """
    if placement is None or placement.is_empty():
        return pipeline
    try:
        from pipelines.placement import placed
    except ImportError as error:
        raise BadInputError(
            "placement: kfp-kubernetes is not installed; run: pip install 'rewardloop[cluster]'"
        ) from error
    return placed(pipeline, placement)


def check_names(pipeline: str, specification: Mapping[str, Any]) -> None:
    """Refuse parameters and artifacts that would arrive on Kubernetes as booleans.

    Args:
        pipeline: for the message.
        specification: the compiled pipeline.

    Raises:
        BadInputError: it names the component, the kind and the name.
    """
    components = {"root": specification["root"], **specification.get("components", {})}
    for component, definition in components.items():
        for side in ("inputDefinitions", "outputDefinitions"):
            for kind in ("parameters", "artifacts"):
                for name in definition.get(side, {}).get(kind, {}):
                    if name.lower() in BOOLEANS:
                        raise BadInputError(
                            f"pipeline {pipeline}, {component}: one of its {kind} is named {name!r}; Kubernetes reads "
                            f"{', '.join(sorted(BOOLEANS))} as true or false, in any case; give it another name"
                        )
