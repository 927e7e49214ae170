"""The step with real files: a model that scores as it did when it was trained, also after a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from rewardloop.evidence import TrainingEvidence
from rewardloop.modeling.parity import check_parity
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.steps.train_reward_model import train_reward_model
from tests.preferences_tables import smoke_settings, write_film_tables

CALL = """
import sys
from pathlib import Path
from rewardloop.steps.train_reward_model import train_reward_model
preferences, settings, out = sys.argv[1:]
train_reward_model(
    preferences=Path(preferences), store="", settings=settings, champion="", tracking_uri="", code_version="1",
    reward_model=Path(out),
)
"""


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film_tables(tmp_path_factory.mktemp("preferences"), 300)


def train(preferences: Path, out: Path, *overrides: str) -> TrainingEvidence:
    settings = smoke_settings(*overrides).section("model", "training")
    train_reward_model(
        preferences=preferences,
        store="",
        settings=settings,
        champion="",
        tracking_uri="",
        code_version="1",
        reward_model=out,
    )
    return TrainingEvidence.model_validate_json((out / "evidence" / "training.json").read_bytes())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_saved_model_scores_as_it_was_trained(preferences: Path, tmp_path: Path, method: str) -> None:
    evidence = train(preferences, tmp_path / "out", f"training.method={method}")
    assert evidence.resumed_from_step is None
    assert evidence.groups == pl.read_parquet(preferences / "items.parquet").filter(split="train")["group"].n_unique()
    scorer = RewardScorer.load(tmp_path / "out")
    assert check_parity(scorer, tmp_path / "out" / "parity.json", where="reloaded") <= 1e-5
    assert json.loads((tmp_path / "out" / "scoring.json").read_text())["threshold"] is None
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in {".bin", ".pkl", ".pt"}]
    # The checkpoint's work is done.
    assert not list(Path(os.environ["REWARDLOOP_HOME"]).rglob("checkpoint.pt"))


@pytest.mark.timeout(900)  # three trainings, on a machine that may have other work
def test_training_goes_on_after_a_kill(preferences: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, the same call again in another output folder: the weights of an undisturbed run."""
    overrides = ("training.epochs=20", "training.checkpoints=40", "training.patience=1000")
    settings = smoke_settings(*overrides).section("model", "training")
    process = subprocess.Popen([sys.executable, "-c", CALL, str(preferences), settings, str(tmp_path / "killed")])
    home = Path(os.environ["REWARDLOOP_HOME"])
    deadline = time.monotonic() + 400
    while not list(home.rglob("checkpoint.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model").exists()

    resumed = train(preferences, tmp_path / "resumed", *overrides)
    assert resumed.resumed_from_step is not None
    assert 0 < resumed.resumed_from_step < resumed.steps
    undisturbed = train(preferences, tmp_path / "undisturbed", *overrides)
    assert undisturbed.resumed_from_step is None
    assert weights_digest(tmp_path / "resumed" / "model") == weights_digest(tmp_path / "undisturbed" / "model")
    assert [point.loss for point in resumed.curve] == [point.loss for point in undisturbed.curve]
