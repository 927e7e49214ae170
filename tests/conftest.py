"""What tests of all families share: no network, and a tiny base model made on the spot."""

import os
from pathlib import Path

import pytest

from rewardloop.cli.environment import set_defaults
from rewardloop.modeling.base import prepare_base

set_defaults()
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a random Llama with 2 layers and a byte-level tokenizer."""
    return prepare_base("random:tiny", tmp_path_factory.mktemp("base-models"))


@pytest.fixture(autouse=True)
def _no_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test is not part of a run, and asks no registry of another test, unless it says so."""
    monkeypatch.delenv("REWARDLOOP_RUN_DIR", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # mlflow.set_tracking_uri leaves it behind
    monkeypatch.setenv("REWARDLOOP_HOME", str(tmp_path / "home"))
