"""A component is its step: the same names in the same order; and the shipped graph is the graph of the sources."""

import importlib.util
import inspect
import tempfile
import tokenize
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl
from ruamel.yaml import YAML

from pipelines.compile import BOOLEANS, COMPILED, PIPELINES, compile_to, compiled
from rewardloop.config import STEPS
from rewardloop.errors import BadInputError

DATA_STEPS = {"load-corpus", "validate-feedback", "build-preferences", "train-reward-model", "evaluate-reward-model"}

COMPONENTS = sorted(path.stem for path in Path("components").glob("*.py") if path.stem != "__init__")
STEP_FILES = sorted(
    path.stem
    for path in Path("src/rewardloop/steps").glob("*.py")
    if f"\ndef {path.stem}(" in path.read_text() and path.stem != "step_run"
)
"""Files with a function of their own name; ``step_run`` and the others hold what steps have in common."""


def test_every_step_has_its_component_and_no_other() -> None:
    assert COMPONENTS == STEP_FILES


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_takes_what_its_step_takes(name: str) -> None:
    component = getattr(importlib.import_module(f"components.{name}"), name)
    step = getattr(importlib.import_module(f"rewardloop.steps.{name}"), name)
    wanted = inspect.signature(step).parameters
    given = inspect.signature(component.python_func).parameters
    assert list(given) == [key for key in wanted if key in given]
    # What a graph never says is for callers within the library, and has a default.
    assert all(wanted[key].default is not inspect.Parameter.empty for key in set(wanted) - set(given))
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
def test_yaml_reads_the_same_by_both_standards(name: str) -> None:
    """YAML 1.1 (PyYAML, and Kubernetes) takes n, y, on and off for booleans, YAML 1.2 for words."""
    text = (COMPILED / f"{name}.yaml").read_text()
    newer = YAML(typ="safe", pure=True)
    newer.version = (1, 2)
    assert list(yaml.safe_load_all(text)) == list(newer.load_all(text))


def test_the_two_standards_differ_where_it_matters() -> None:
    """Or the test above could not fail."""
    newer = YAML(typ="safe", pure=True)
    newer.version = (1, 2)
    assert yaml.safe_load("on: 1") == {True: 1}
    assert newer.load("on: 1") == {"on": 1}


@pytest.mark.parametrize("word", sorted([*BOOLEANS, "On", "NO", "Y"]))
@pytest.mark.parametrize("kind", ["parameters", "artifacts"])
def test_a_name_that_becomes_a_boolean_is_refused(word: str, kind: str) -> None:
    with pytest.raises(BadInputError, match=rf"pipeline planted, comp-planted: one of its {kind} .*another name"):
        compiled(planted(word, kind))


def planted(word: str, kind: str) -> Any:
    """A pipeline of one component that takes a parameter, or gives an artifact, of this name."""
    given = {"parameters": f"{word}: str", "artifacts": f"{word}: dsl.Output[dsl.Dataset]"}[kind]
    path = Path(tempfile.mkdtemp()) / "planted_component.py"  # KFP reads the source of a component
    path.write_text(
        f"from kfp import dsl\n\n@dsl.component(base_image='python')\ndef planted({given}) -> None:\n    pass\n"
    )
    specification = importlib.util.spec_from_file_location(f"planted_{word}_{kind}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    @dsl.pipeline(name="planted")
    def graph() -> None:
        module.planted(**({word: "a"} if kind == "parameters" else {}))

    return graph


def test_placement_knows_every_step() -> None:
    assert set(STEPS) == {*COMPONENTS, "submit_when_due"}


def test_the_cache_of_data_steps_does_not_see_why_a_run_was_started() -> None:
    """Nor settings of PPO: what differs from run to run reaches tasks only that are never cached."""
    for name in ("retrain", "retrain-and-align"):
        [specification] = yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text())
        for component in (specification["root"], *specification["components"].values()):
            for task, given in component.get("dag", {}).get("tasks", {}).items():
                taken = {
                    one.get("componentInputParameter", "")
                    for one in given.get("inputs", {}).get("parameters", {}).values()
                }
                taken = {one.removeprefix("pipelinechannel--") for one in taken}
                cached = given.get("cachingOptions", {}).get("enableCache", False)
                assert not (cached and "trigger_reason" in taken), task
                if task in DATA_STEPS:
                    assert cached
                    assert not taken & {"alignment_settings", "policy_settings", "sft_settings"}, task
