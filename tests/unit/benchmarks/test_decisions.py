"""Faults are planted where they are said to be, and verdicts are those on disk."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.decisions import __main__ as command
from benchmarks.decisions import faults, good, scene
from benchmarks.decisions.scene import Scene, Size
from rewardloop.config import EvaluationSettings, GateSettings, PreferenceSettings, SplitSettings, ThresholdSettings
from rewardloop.preferences.build import build

TINY = Size({"code": 120, "travel": 120}, SplitSettings(train=0.3, validation=0.2, calibration=0.2, test=0.3))
HELD_OUT_GROUPS = ("test", "golden")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A scene without a champion, for which a registry would have to be made."""
    world = scene.generator.make_world(0, TINY.prompts)
    rows, verdicts = scene.labeled(world, 0)
    at = Scene(tmp_path_factory.mktemp("tiny"), TINY, world, rows, verdicts, "", "")
    scene.ingest(at.store, rows, TINY.splits)
    return at


@pytest.fixture
def tables(tiny: Scene, tmp_path: Path) -> Path:
    built = build(
        tiny.rows,
        preferences=PreferenceSettings(),
        splits=TINY.splits,
        evaluation=EvaluationSettings(),
        golden=frozenset(tiny.rows["document"].unique().sort().head(20)),
    )
    built.items.write_parquet(tmp_path / "items.parquet")
    built.pairs.write_parquet(tmp_path / "pairs.parquet")
    return tmp_path


def test_settings_are_settings() -> None:
    assert GateSettings.model_validate(scene.SETTINGS["gate"]).any_limit()
    ThresholdSettings.model_validate(scene.SETTINGS["threshold"])
    for size in scene.SIZES.values():
        assert sum(size.splits.model_dump(include={"train", "validation", "calibration", "test"}).values()) == 1


def test_a_large_scene_tests_4000_prompts_of_one_slice() -> None:
    splits = scene.LARGE.splits
    expected = scene.LARGE.prompts["code"] * (1 - splits.golden) * splits.test
    assert expected - 4 * np.sqrt(expected) > 4000


def test_every_kind_is_said_in_words_and_has_a_size() -> None:
    assert len(faults.FAULTS) == 13  # 12 kinds, one of them at two strengths
    for size, plant in (faults.FAULTS | good.GOOD).values():
        assert size in scene.SIZES
        assert plant.__doc__ or plant.__qualname__.startswith("flipped_labels")


@pytest.mark.parametrize("split", HELD_OUT_GROUPS)
def test_leaked_groups_are_in_the_training_split(tables: Path, split: str) -> None:
    before = pl.read_parquet(tables / "pairs.parquet")
    faults._copy_split(tables, split, "train")
    items, pairs = pl.read_parquet(tables / "items.parquet"), pl.read_parquet(tables / "pairs.parquet")
    assert items["item"].to_list() == list(range(len(items)))
    counts = {name: len(pairs.filter(split=name)) - len(before.filter(split=name)) for name in ("train", split)}
    assert counts == {"train": len(before.filter(split=split)), split: 0}
    texts = items["response"]
    leaked, honest = pairs.filter(split="train").tail(counts["train"]), pairs.filter(split=split)
    for side in "ab":
        assert texts[leaked[side].to_list()].to_list() == texts[honest[side].to_list()].to_list()
    assert leaked["p"].to_list() == honest["p"].to_list()
    assert set(items[leaked["a"].to_list()]["split"]) == {"train"}


def test_the_calibration_split_becomes_a_copy_of_test(
    tables: Path, tiny: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scene, "judge", lambda _self, _values, tamper: tamper(tables))
    faults.threshold_fitted_on_test(tiny, 0)
    items = pl.read_parquet(tables / "items.parquet")
    assert items["item"].to_list() == list(range(len(items)))
    calibration, test = items.filter(split="calibration"), items.filter(split="test")
    assert len(calibration) > 20
    assert set(calibration["response"]) <= set(test["response"])
    assert set(calibration["document"]) <= set(test["document"])


def test_swapped_rows_are_as_many_as_planted(tiny: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scene, "judge", lambda _self, _values, feedback: feedback)
    quality = tiny.world.quality()
    for share in (0.2, 0.4):
        rows: object = faults.flipped_labels(share)(tiny, 0)
        assert isinstance(rows, pl.DataFrame)
        wrong = []
        for place, labels in enumerate(rows["labels"].to_list()):
            chosen = [one["values"][0]["response_id"] for one in labels if one["kind"] == "choice"]
            better = f"{place}-{'ab'[int(quality[place, 1] > quality[place, 0])]}"
            wrong.append(np.mean([one != better for one in chosen]) > 0.5)
        # 240 rows, and labelers who are right 95% of the time: a standard error of 0.03.
        assert np.mean(wrong) == pytest.approx(share, abs=0.1)


def test_a_verdict_is_what_the_blessing_says(tmp_path: Path) -> None:
    (tmp_path / "blessing").mkdir()
    checks = [{"name": "accuracy", "passed": True}, {"name": "slices", "passed": False}]
    (tmp_path / "blessing" / "blessing.json").write_text(json.dumps({"blessed": False, "checks": checks}))
    assert scene.read_verdict(tmp_path) == (False, ["slices"])
    (tmp_path / "blessing" / "blessing.json").write_text(json.dumps({"blessed": True, "checks": checks[:1]}))
    assert scene.read_verdict(tmp_path) == (True, [])


def test_steps_judge_a_planted_candidate_without_leaving_anything(tiny: Scene) -> None:
    before = sorted(path for path in tiny.folder.rglob("*"))
    verdict = tiny.judge(dict.fromkeys(tiny.world.values, 0.0))
    assert not verdict.blessed
    assert verdict.why
    assert sorted(path for path in tiny.folder.rglob("*")) == before


def test_a_step_that_refuses_is_named(tiny: Scene) -> None:
    # All labels on a criterion that nobody trains on: build_preferences finds no pair.
    silent = tiny.rows.with_columns(pl.lit([], dtype=tiny.rows.schema["labels"]).alias("labels"))
    assert tiny.judge(tiny.world.values, feedback=silent.head(30)) == (False, ["stopped by build_preferences"])


def application() -> typer.Typer:
    app = typer.Typer()
    app.command()(command.main)
    return app


def test_it_explains_itself() -> None:
    shown = CliRunner().invoke(application(), ["--help"])
    assert shown.exit_code == 0
    assert "one JSON object" in shown.output
    assert "python -m benchmarks.decisions" in str(command.__doc__)


def test_the_last_line_is_one_object() -> None:
    done = CliRunner().invoke(application(), ["--only", "guarantee", "--resamplings", "5"])
    assert done.exit_code == 0
    found = json.loads(done.output.strip().splitlines()[-1])
    assert set(found["guarantee"]) == {"0.05", "0.10"}
    assert found["guarantee"]["0.10"]["of"] == 5


@pytest.mark.parametrize(("option", "value"), [("--only", "fault"), ("--kinds", "equal,typo")])
def test_unknown_names_are_refused(option: str, value: str) -> None:
    done = CliRunner().invoke(application(), [option, value])
    assert done.exit_code == 2
    assert "expected some of" in " ".join(done.output.split())
