"""The reward model as MLflow serves it: rows of prompt and response in, score, verdict, threshold, version out.

This file is registered with every version (models from code, no pickle) and runs where rewardloop is not installed: it
imports MLflow, pandas and the standard library only. How a text is scored is decided by the copy of ``scoring/`` that
lies beside the weights; it is loaded under a name of its own, so that two versions can be loaded side by side. Nothing
is loaded that differs from the manifest.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from threading import Lock
from types import CodeType, ModuleType
from typing import Any
from uuid import uuid4

import pandas as pd
import yaml
from mlflow import MlflowClient, is_tracking_uri_set
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]


class _SourceOnly(SourceFileLoader):
    """Bytecode is neither read nor written: it would be a file that nobody registered."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source itself."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


class _CopyFinder(MetaPathFinder):
    """Finds the modules of one copy, which import each other as ``.packing``, say."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module of this copy is; None for any other."""
        package, _, module = fullname.rpartition(".")
        if package != self.name:
            return None
        file = str(self.folder / f"{module}.py")
        return importlib.util.spec_from_file_location(fullname, file, loader=_SourceOnly(fullname, file))


def load_scoring(directory: Path) -> ModuleType:
    """Import the package ``directory/scoring`` so that it shares nothing with any other copy."""
    folder = directory / "scoring"
    init = str(folder / "__init__.py")
    name = f"reward_model_scoring_{uuid4().hex}"
    spec = importlib.util.spec_from_file_location(
        name, init, loader=_SourceOnly(name, init), submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    # First in line: the search by folder would take bytecode.
    sys.meta_path.insert(0, _CopyFinder(name, folder))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # relative imports and dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class RewardModel(PythonModel):
    """Answers ``score``, ``allowed``, ``decision``, ``threshold`` and ``model_version`` per row."""

    def load_context(self, context: Any) -> None:
        """Load the scorer, and find out which version this is (empty when loaded from outside the registry)."""
        directory = _verified(Path(context.artifacts["reward_model"]))
        self.scoring = load_scoring(directory)
        # MLflow's server answers in several threads, and neither tokenizer nor prompt cache may be used by two at once.
        self.turn = Lock()
        self.scorer = self.scoring.RewardScorer.load(directory)
        meta = directory.parents[1] / "registered_model_meta"
        self.version = str(yaml.safe_load(meta.read_bytes())["model_version"]) if meta.is_file() else ""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score rows of ``response`` and, optionally, ``prompt``: a text, a JSON list of messages, or empty for none.

        ``decision`` is accept, review or block; review only where the version has a block threshold. Answers that are
        too long for the model have no score and are not allowed. Without a certified threshold ``threshold``,
        ``allowed`` and ``decision`` are empty.
        """
        if "response" not in model_input.columns:
            raise _refused(f"no column 'response'; found {sorted(map(str, model_input.columns))}")
        responses = model_input["response"].tolist()
        for row, response in enumerate(responses):
            if not isinstance(response, str):
                raise _refused(f"row {row}: 'response' is {response!r}; expected a text")
        given = model_input["prompt"].tolist() if "prompt" in model_input.columns else [""] * len(responses)
        prompts = []
        for row, prompt in enumerate(given):
            try:
                prompts.append(self.scoring.as_messages(prompt))
            except ValueError as error:
                raise _refused(f"row {row}: {error}") from error
        with self.turn:
            scores = self.scorer.score(prompts, responses)
        threshold = self.scorer.threshold
        return pd.DataFrame(
            {
                "score": scores,
                "allowed": [None] * len(responses) if threshold is None else self.scorer.allowed(scores),
                "decision": [None] * len(responses) if threshold is None else self.scorer.decisions(scores),
                "threshold": float("nan") if threshold is None else threshold,
                "model_version": self.version,
            },
            index=model_input.index,
        )


def _verified(directory: Path) -> Path:
    """``directory``, if its files are those of ``manifest.json`` and that is the one of the version's tag.

    The same in every file that MLflow serves: such a file travels alone. The registry is asked where MLflow was told
    which one; otherwise, and where it does not know the version, the manifest has to be believed.

    Raises:
        MlflowException: names the first file that is changed, missing or extra.
    """
    path = directory / "manifest.json"
    content = path.read_bytes() if path.is_file() else b"{}"
    try:
        wanted: dict[str, str] = json.loads(content)
    except ValueError:
        wanted = {}
    found: dict[str, str] = {}
    for file in (file for file in directory.rglob("*") if file.is_file() and file != path):
        with file.open("rb") as stream:
            found[file.relative_to(directory).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    # MLflow writes this file beside MLmodel when a version is loaded by its name.
    meta = directory.parents[1] / "registered_model_meta"
    # Without an address MlflowClient would make a database in the current folder.
    if meta.is_file() and is_tracking_uri_set():  # type: ignore[no-untyped-call]
        told = yaml.safe_load(meta.read_bytes())
        with suppress(MlflowException):
            version = MlflowClient().get_model_version(told["model_name"], str(told["model_version"]))
            if version.tags.get("manifest_digest") != hashlib.sha256(content).hexdigest():
                wrong.insert(0, path.name)
    if wrong:
        raise MlflowException(f"{directory / wrong[0]}: not as it was registered; the model is not loaded")
    return directory


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)  # type: ignore[no-any-return]


set_model(RewardModel())
