"""A component is its step: the same names in the same order; and the shipped graph is the graph of the sources."""

import importlib
import inspect
import tokenize
from pathlib import Path

import pytest
import yaml

from pipelines.compile import COMPILED, PIPELINES, compile_to

COMPONENTS = sorted(path.stem for path in Path("components").glob("*.py") if path.stem != "__init__")
STEPS = sorted(
    path.stem for path in Path("src/rewardloop/steps").glob("*.py") if path.stem not in {"__init__", "step_run"}
)


def test_every_step_has_its_component_and_no_other() -> None:
    assert COMPONENTS == STEPS


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_takes_what_its_step_takes(name: str) -> None:
    component = getattr(importlib.import_module(f"components.{name}"), name)
    step = getattr(importlib.import_module(f"rewardloop.steps.{name}"), name)
    wanted = inspect.signature(step).parameters
    given = inspect.signature(component.python_func).parameters
    assert list(given) == list(wanted)
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in wanted.values())
    artifacts = {key for key, parameter in given.items() if parameter.annotation not in (str, int, float, bool)}
    assert artifacts == {key for key, parameter in wanted.items() if parameter.annotation in (Path, Path | None)}


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_holds_no_logic(name: str) -> None:
    lines = Path(f"components/{name}.py").read_text().splitlines()
    assert len(lines) < 60
    with tokenize.open(f"components/{name}.py") as stream:
        words = {token.string for token in tokenize.generate_tokens(stream.readline)}
    assert not words & {"if", "for", "while", "try", "with", "lambda"}


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_compiled_pipeline_is_not_stale(name: str, tmp_path: Path) -> None:
    compile_to(tmp_path)
    fresh, shipped = (folder / f"{name}.yaml" for folder in (tmp_path, COMPILED))
    assert shipped.read_text() == fresh.read_text(), "run: make compile"


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_no_name_becomes_a_boolean_on_kubernetes(name: str) -> None:
    """YAML 1.1 reads n, y, on and off as booleans; Kubernetes does too."""

    def keys(tree: object) -> set[object]:
        if isinstance(tree, dict):
            return set(tree) | {key for value in tree.values() for key in keys(value)}
        if isinstance(tree, list):
            return {key for value in tree for key in keys(value)}
        return set()

    # PyYAML's safe loader follows YAML 1.1.
    assert all(isinstance(key, str) for key in keys(yaml.safe_load((COMPILED / f"{name}.yaml").read_text())))
