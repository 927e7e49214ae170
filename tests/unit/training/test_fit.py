"""One training in one process and in two: the same curve, the same model, and errors that come through."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from rewardloop.errors import BadInputError
from rewardloop.evidence import TrainingEvidence
from rewardloop.training.fit import FitJob, fit
from tests.preferences_tables import smoke_settings, write_film_tables


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film_tables(tmp_path_factory.mktemp("preferences"), 150)


def train(preferences: Path, base: str, output: Path, *overrides: str, **job: Any) -> TrainingEvidence:
    settings = smoke_settings("training.precision=float32", *overrides).section("model", "training")
    return fit(FitJob(str(preferences), base, settings, str(output / "checkpoints"), str(output), **job))


@pytest.fixture(scope="module")
def alone(preferences: Path, tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingEvidence, Path]:
    output = tmp_path_factory.mktemp("alone")
    return train(preferences, tiny_base, output), output


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_give_the_curve_of_one(
    preferences: Path, tiny_base: str, tmp_path: Path, alone: tuple[TrainingEvidence, Path], sharding: str
) -> None:
    expected, folder = alone
    # Small batches: each process accumulates several, and not the same number.
    small = ("training.processes=2", "training.tokens_per_batch=120")
    found = train(preferences, tiny_base, tmp_path, *small, f"training.sharding={sharding}")
    assert found.processes == 2
    assert found.tokens == expected.tokens
    np.testing.assert_allclose(
        [point.loss for point in found.curve], [point.loss for point in expected.curve], rtol=1e-5
    )
    np.testing.assert_allclose(
        [point.loss for point in found.validation], [point.loss for point in expected.validation], rtol=1e-5
    )
    first, second = (load_file(where / "model" / "model.safetensors") for where in (folder, tmp_path))
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(second[name].numpy(), value.numpy(), atol=1e-5)


def test_two_processes_that_go_on_from_a_model_check_what_one_checks(
    preferences: Path, alone: tuple[TrainingEvidence, Path], tmp_path: Path
) -> None:
    start = str(alone[1] / "model")
    one = train(preferences, start, tmp_path / "one", known_batches=["batch-1"])
    wanted = ("training.processes=2", "training.sharding=fsdp")
    two = train(preferences, start, tmp_path / "two", *wanted, known_batches=["batch-1"])
    assert one.held_out.keys() == {"validation", "old_validation", "old_test"}
    for name, found in one.held_out.items():
        assert two.held_out[name].pairs == found.pairs > 5
        assert two.held_out[name].before == pytest.approx(found.before, abs=0.02)
        assert two.held_out[name].after == pytest.approx(found.after, abs=0.02)


def test_an_error_in_one_of_two_processes_is_the_error_of_the_training(
    preferences: Path, tiny_base: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match="tokens_per_batch: found 8"):
        train(preferences, tiny_base, tmp_path, "training.processes=2", "training.tokens_per_batch=8")


def test_only_the_named_groups_are_trained_on(preferences: Path, tiny_base: str, tmp_path: Path) -> None:
    known = pl.read_parquet(preferences / "pairs.parquet").filter(split="train")["group"].unique().sort().to_list()
    evidence = train(preferences, tiny_base, tmp_path, groups=known[:3])
    assert evidence.groups == 3
    scoring = json.loads((tmp_path / "scoring.json").read_text())
    assert scoring["base"] == "random:tiny"
    assert len(scoring["tokenizer"]) == 64
