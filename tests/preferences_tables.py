"""Tables as the step ``build_preferences`` writes them, under the settings of the smoke configuration."""

from pathlib import Path

import polars as pl

from rewardloop.config import Settings, load_settings
from rewardloop.preferences.build import build
from tests.unit.preferences.feedback import frame, group, rating


def smoke_settings(*overrides: str) -> Settings:
    """``conf/smoke.yaml`` with overrides such as ``training.epochs=4``."""
    return load_settings(Path("conf/smoke.yaml"), overrides).settings


def write_tables(folder: Path, feedback: pl.DataFrame) -> Path:
    """``items.parquet`` and ``pairs.parquet`` of ``feedback`` in ``folder``, which is made if need be."""
    settings = smoke_settings()
    built = build(
        feedback,
        preferences=settings.preferences,
        splits=settings.splits,
        evaluation=settings.evaluation,
        golden=frozenset(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    built.items.write_parquet(folder / "items.parquet")
    built.pairs.write_parquet(folder / "pairs.parquet")
    return folder


def write_film_tables(folder: Path, count: int) -> Path:
    """Tables of ``count`` texts that say good or bad, rated accordingly."""
    texts = [f"{'good' if i % 7 > 3 else 'bad'} film number {i}" for i in range(count)]
    return write_tables(
        folder, frame([group([text], [rating(a=i % 7), rating(a=i % 7)], prompt=None) for i, text in enumerate(texts)])
    )
