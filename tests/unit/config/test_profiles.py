"""``--profile``: batch, precision and sharding together, below what a person says."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rewardloop.config import PROFILES, load_settings
from rewardloop.errors import BadInputError

SMOKE = Path("conf/smoke.yaml")


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sets_what_nobody_set(name: str) -> None:
    loaded = load_settings(SMOKE, profile=name)
    training, align, wanted = loaded.settings.training, loaded.settings.align, PROFILES[name]
    assert (training.tokens_per_batch, training.precision) == (wanted.tokens_per_batch, wanted.precision)
    assert (training.sharding, training.gradient_checkpointing) == (wanted.sharding, wanted.gradient_checkpointing)
    assert align is not None
    assert (align.tokens_per_batch, align.generation.rows) == (wanted.tokens_per_batch, wanted.rows)
    assert loaded.settings.evaluation.tokens_per_batch >= wanted.tokens_per_batch
    for key in ("training.sharding", "align.generation.rows", "evaluation.tokens_per_batch"):
        assert loaded.origins[key] == f"profile {name}"


def test_file_and_override_win(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("organization: a\nmodel: {base: random:tiny}\ntraining: {precision: float32, epochs: 2}\n")
    loaded = load_settings(file, ["training.sharding=ddp"], "a10g")
    training = loaded.settings.training
    assert (training.precision, training.sharding) == ("float32", "ddp")
    assert loaded.origins["training.precision"] == str(file)
    assert loaded.origins["training.sharding"] == "--set"
    assert training.tokens_per_batch == PROFILES["a10g"].tokens_per_batch
    # A profile does not bring alignment about.
    assert loaded.settings.align is None


def test_larger_devices_take_larger_batches() -> None:
    sizes = [PROFILES[name].tokens_per_batch for name in ("cpu", "a10g", "a100", "h100", "h200")]
    assert sizes == sorted(set(sizes))


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(BadInputError, match="--profile 'b200': expected one of cpu, a10g, a100, h100, h200"):
        load_settings(SMOKE, profile="b200")


def test_the_commands_take_it_and_config_shows_it() -> None:
    from pipelines.__main__ import app as pipelines
    from rewardloop.cli.main import app

    shown = CliRunner().invoke(app, ["config", "check", str(SMOKE), "--profile", "h100"])
    assert shown.exit_code == 0, shown.output
    [line] = [one for one in shown.output.splitlines() if one.startswith("training.sharding ")]
    assert line.split(maxsplit=1)[1].split("  ")[-1].strip() == "profile h100"
    for command in ("run", "submit"):
        assert isinstance(
            CliRunner().invoke(app, [command, "-c", str(SMOKE), "--profile", "x"]).exception, BadInputError
        )
    for command in ("deploy", "schedule"):
        found = CliRunner().invoke(pipelines, [command, "-c", str(SMOKE), "--profile", "x"]).exception
        assert isinstance(found, BadInputError)
