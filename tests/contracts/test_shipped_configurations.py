"""Every configuration in conf/ is valid, and says what its comments promise."""

from pathlib import Path

import pytest

from rewardloop.config import load_settings

CONFIGURATIONS = sorted(Path("conf").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_configuration_is_valid_and_can_bless(path: Path) -> None:
    settings = load_settings(path).settings
    assert settings.gate.any_limit()
    assert settings.organization == settings.splits.salt


def test_the_recipes_are_there() -> None:
    assert {path.stem for path in CONFIGURATIONS} >= {"demo", "smoke", "hh", "imdb"}
    for name in ("hh", "imdb"):
        assert load_settings(Path(f"conf/{name}.yaml")).settings.model.base == "facebook/opt-1.3b"


def test_demo_leaves_enough_items_for_its_threshold() -> None:
    from demo.film_reviews import FIRST_BATCH

    splits = load_settings(Path("conf/demo.yaml")).settings.splits
    assert FIRST_BATCH * (1 - splits.golden) * splits.calibration > 1000
