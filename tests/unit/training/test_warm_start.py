"""A retrain goes on from the champion where it can, forgets nothing unnoticed, and gives way to the base otherwise."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from rewardloop.evidence import TrainingEvidence, WarmStartEvidence
from rewardloop.training.fit import FitJob, fit
from rewardloop.training.warm_start import Champion, fit_from_champion
from tests.preferences_tables import smoke_settings, write_tables
from tests.unit.preferences.feedback import frame, group, rating

TIMES = {"first": datetime(2026, 1, 1, tzinfo=UTC), "second": datetime(2026, 2, 1, tzinfo=UTC)}


def sentences(numbers: range, *, flipped: bool = False) -> list[object]:
    made = []
    for number in numbers:
        quality = number % 7
        text = f"{'good ' * quality}{'bad ' * (6 - quality)}film {number}"
        score = 6 - quality if flipped else quality
        made.append(group([text], [rating(a=score), rating(a=score)], prompt=None))
    return made


def job(preferences: Path, base: str, output: Path, *overrides: str) -> FitJob:
    settings = smoke_settings("training.precision=float32", "training.epochs=4", *overrides)
    section = settings.section("model", "training")
    return FitJob(str(preferences), base, section, str(output / "checkpoints"), str(output))


@pytest.fixture(scope="module")
def champion(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    folder = tmp_path_factory.mktemp("champion")
    tables = write_tables(folder / "tables", frame(sentences(range(300)), "first"))
    fit(job(tables, tiny_base, folder / "model-and-all"))
    return Champion("models:/smoke-reward/1", folder / "model-and-all", {"first"})


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The champion's corpus and a second batch."""
    folder = tmp_path_factory.mktemp("grown")
    feedback = pl.concat([frame(sentences(range(300)), "first"), frame(sentences(range(300, 400)), "second")])
    return write_tables(folder / "tables", feedback)


def retrain(
    tables: Path, base: str, output: Path, champion: Champion, *overrides: str
) -> tuple[TrainingEvidence, WarmStartEvidence]:
    wanted = job(tables, base, output, *overrides)
    evidence = fit_from_champion(wanted, champion, TIMES, fallback=output / "fallback")
    assert evidence.warm_start is not None
    return evidence, evidence.warm_start


def test_the_new_batch_and_a_replay_are_trained_on(
    tiny_base: str, champion: Champion, grown: Path, tmp_path: Path
) -> None:
    evidence, warm = retrain(grown, tiny_base, tmp_path, champion, "training.warm_start.replay_share=0.5")
    assert warm.used
    assert warm.reason == ""
    train = pl.read_parquet(grown / "items.parquet").filter(split="train")
    new = train.filter(pl.col("batches").list.contains("second"))["group"].n_unique()
    assert warm.new_groups == new
    assert warm.replayed_groups == round(new / 2)
    assert evidence.groups == warm.new_groups + warm.replayed_groups < train["group"].n_unique() / 2
    # The champion was good at this already, and is checked on pairs of both splits.
    for found in (warm.validation, warm.old_validation, warm.old_test):
        assert found is not None
        assert found.pairs > 10
        assert found.after >= found.before - 0.01
    assert json.loads((tmp_path / "scoring.json").read_text())["base"] == "random:tiny"


def test_a_first_step_that_only_harms_keeps_the_champions_weights(
    tiny_base: str, champion: Champion, grown: Path, tmp_path: Path
) -> None:
    evidence, warm = retrain(grown, tiny_base, tmp_path, champion, "training.learning_rate=5.0")
    assert warm.used
    assert evidence.best_step == 0
    assert warm.validation is not None
    assert warm.validation.after == warm.validation.before


def test_a_warm_start_that_forgets_gives_way_to_the_base(tiny_base: str, champion: Champion, tmp_path: Path) -> None:
    """The second batch says the opposite of the first, and is larger."""
    feedback = pl.concat(
        [frame(sentences(range(300)), "first"), frame(sentences(range(300, 1200), flipped=True), "second")]
    )
    tables = write_tables(tmp_path / "tables", feedback)
    evidence, warm = retrain(
        tables,
        tiny_base,
        tmp_path / "out",
        champion,
        "training.warm_start.replay_share=0",
        "training.learning_rate=0.01",
    )
    assert not warm.used
    assert "brought the accuracy on earlier held-out pairs from" in warm.reason
    assert warm.old_validation is not None
    assert warm.old_validation.after < warm.old_validation.before
    assert evidence.groups == pl.read_parquet(tables / "items.parquet").filter(split="train")["group"].n_unique()


def test_another_base_or_tokenizer_trains_from_the_base(
    tiny_base: str, champion: Champion, grown: Path, tmp_path: Path
) -> None:
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    _, warm = retrain(grown, tiny_base, tmp_path / "1", champion, f"model.base={tiny_base}")
    assert not warm.used
    assert f"was trained from 'random:tiny', model.base is {tiny_base!r}" in warm.reason
    changed = tmp_path / "changed"
    shutil.copytree(tiny_base, changed)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save_pretrained(changed)
    evidence, warm = retrain(grown, str(changed), tmp_path / "2", champion)
    assert "the tokenizer of 'random:tiny' has changed since models:/smoke-reward/1" in warm.reason
    assert evidence.groups == pl.read_parquet(grown / "items.parquet").filter(split="train")["group"].n_unique()


@pytest.mark.parametrize(
    ("known", "reason"), [({"first", "second"}, "no batch has come"), (set(), "knows none of the batches")]
)
def test_without_anything_new_or_old_the_base_is_trained(
    tiny_base: str, champion: Champion, grown: Path, tmp_path: Path, known: set[str], reason: str
) -> None:
    other = Champion(champion.name, champion.directory, known)
    _, warm = retrain(grown, tiny_base, tmp_path, other, "training.epochs=1")
    assert not warm.used
    assert reason in warm.reason
