"""Benchmarks say clearly when they cannot run, and their workloads have the shape they claim."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner


def last_line(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text.strip().splitlines()[-1])
    return found


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: the benchmark would run")
@pytest.mark.parametrize("name", ["gpu_reward_training", "gpu_ppo"])
def test_without_a_gpu_nothing_is_claimed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(f"benchmarks.{name}").main()
    assert "no CUDA device" in str(last_line(capsys.readouterr().out)["skipped"])


def test_without_the_sentences_nothing_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.retrain import main

    main(data=tmp_path / "nowhere.csv", home=tmp_path / "home")
    assert "film_reviews.py" in str(last_line(capsys.readouterr().out)["skipped"])


@pytest.mark.parametrize(
    "name",
    [
        "reward_training",
        "scoring",
        "retrain",
        "ppo",
        "gpu_reward_training",
        "gpu_ppo",
        "faults.__main__",
        "serving",
        "overhead",
    ],
)
def test_every_benchmark_explains_itself(name: str) -> None:
    import typer

    module = importlib.import_module(f"benchmarks.{name}")
    app = typer.Typer()
    app.command()(module.main)
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert "one JSON object" in shown.output
    assert f"python -m benchmarks.{name.removesuffix('.__main__')}" in module.__doc__


def test_workloads_have_the_shape_they_claim() -> None:
    from benchmarks import workloads

    ranked, wide, pairs = workloads.ranked(3, 0), workloads.wide(3, 0), workloads.pairs(400, 0)
    assert {len(group["prompt"]) for group in ranked} == {120}
    assert {len(response) for group in ranked for response in group["responses"]} == {60}
    assert {len(group["pairs"]) for group in ranked} == {6}
    assert {len(group["responses"]) for group in wide} == {13}
    assert {len(group["pairs"]) for group in wide} == {78}
    assert 110 < np.mean([len(group["prompt"]) for group in pairs]) < 135
    assert 38 < np.mean([len(response) for group in pairs for response in group["responses"]]) < 50
    assert workloads.ranked(3, 0) == ranked
