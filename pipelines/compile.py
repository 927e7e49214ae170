"""Compile every pipeline to the YAML that ships with the wheel."""

from pathlib import Path

from kfp import compiler

from pipelines.retrain import retrain
from pipelines.retrain_and_align import retrain_and_align
from pipelines.trigger import trigger

PIPELINES = {"retrain": retrain, "retrain-and-align": retrain_and_align, "trigger": trigger}
COMPILED = Path(__file__).parent.parent / "src" / "rewardloop" / "compiled"


def compile_to(folder: Path) -> list[Path]:
    """Write one ``<pipeline>.yaml`` per pipeline into ``folder`` and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, pipeline in PIPELINES.items():
        files.append(folder / f"{name}.yaml")
        compiler.Compiler().compile(pipeline, str(files[-1]))
    return files
