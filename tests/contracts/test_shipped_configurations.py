"""Every configuration in conf/ is valid, and says what its comments promise."""

from pathlib import Path

import pytest

from rewardloop.config import load_settings
from rewardloop.feedback.text_sets import read_text_set
from rewardloop.records import bucket

CONFIGURATIONS = sorted(Path("conf").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_configuration_is_valid_and_can_bless(path: Path) -> None:
    settings = load_settings(path).settings
    assert settings.gate.any_limit()
    assert settings.organization == settings.splits.salt


def test_the_recipes_are_there() -> None:
    assert {path.stem for path in CONFIGURATIONS} >= {"demo", "smoke", "hh", "imdb", "cluster"}
    for name in ("hh", "imdb"):
        assert load_settings(Path(f"conf/{name}.yaml")).settings.model.base == "facebook/opt-1.3b"


def test_demo_leaves_enough_items_for_its_threshold() -> None:
    from demo.film_reviews import FIRST_BATCH

    splits = load_settings(Path("conf/demo.yaml")).settings.splits
    assert FIRST_BATCH * (1 - splits.golden) * splits.calibration > 1000


def test_smoke_has_prompts_for_every_split() -> None:
    settings = load_settings(Path("conf/smoke.yaml")).settings
    assert settings.align is not None
    prompts = read_text_set(Path(settings.align.prompts), "prompts")
    shares = [bucket("align", key) for key in prompts["key"]]
    held_out = settings.align.test_share + settings.align.validation_share
    assert sum(share < settings.align.test_share for share in shares) >= 8
    assert sum(settings.align.test_share <= share < held_out for share in shares) >= 4
    assert sum(share >= held_out for share in shares) >= settings.align.episodes / settings.align.samples_per_prompt


def test_demo_leaves_enough_prompts_to_evaluate_its_policy() -> None:
    from demo.film_reviews import PROMPTS

    settings = load_settings(Path("conf/demo.yaml")).settings
    assert settings.align is not None
    assert PROMPTS * settings.align.test_share >= settings.policy_evaluation.prompts
    assert PROMPTS * settings.align.validation_share >= settings.align.validation_prompts


def test_a_section_can_be_left_out_for_one_run() -> None:
    """``--set align=``: retrain the reward model alone."""
    assert load_settings(Path("conf/smoke.yaml"), ["align="]).settings.align is None


def test_the_section_that_is_commented_out_can_be_let_in(tmp_path: Path) -> None:
    text = Path("conf/cluster.yaml").read_text(encoding="utf-8")
    before, _, block = text.partition("# distributed:\n")
    lines = ["distributed:", *(line.removeprefix("# ") for line in block.splitlines())]
    (tmp_path / "cluster.yaml").write_text(before + "\n".join(lines), encoding="utf-8")
    settings = load_settings(tmp_path / "cluster.yaml").settings
    assert (settings.distributed.nodes, settings.distributed.processes_per_node) == (4, 8)
