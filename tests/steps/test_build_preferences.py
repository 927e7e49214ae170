"""The step: real files in, items and pairs out; a corpus from which nothing can be learnt is refused in words."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import PreferenceEvidence
from rewardloop.steps.build_preferences import build_preferences
from tests.unit.preferences.feedback import choice, frame, group, ranking, rated_texts


def run(tmp_path: Path, groups: list[Any], **splits: float) -> Path:
    settings = Settings.model_validate(
        {
            "organization": "acme",
            "model": {"base": "random:tiny"},
            "splits": splits,
            "evaluation": {"bootstrap_samples": 100},
        }
    )
    validated = tmp_path / "validated"
    validated.mkdir()
    frame(groups).with_columns(pl.lit("digest").alias("batch")).write_parquet(validated / "records.parquet")
    build_preferences(
        validated=validated,
        store=str(tmp_path / "store"),
        settings=settings.section("preferences", "splits", "evaluation"),
        code_version="1",
        preferences=tmp_path / "preferences",
    )
    return tmp_path / "preferences"


def test_tables_and_evidence(tmp_path: Path) -> None:
    lonely = group(["only"], [{"kind": "rating", "scores": {"a": 1}}], prompt="Alone?")
    folder = run(tmp_path, [*rated_texts(200), lonely])
    items, pairs = pl.read_parquet(folder / "items.parquet"), pl.read_parquet(folder / "pairs.parquet")
    evidence = PreferenceEvidence.model_validate_json((folder / "evidence" / "preferences.json").read_bytes())
    assert evidence.groups_in == 201 == evidence.groups_used + sum(evidence.left_out.values())
    for line in evidence.splits:
        assert line.items == len(items.filter(split=line.split))
        assert line.pairs == len(pairs.filter(split=line.split))
    assert evidence.agreement[0].segment == "all"
    assert evidence.agreement[0].measurement == "interval"
    assert (folder / "steps" / "build_preferences.json").is_file()


def test_only_ties_are_refused_with_what_to_do(tmp_path: Path) -> None:
    ties = [group([f"a{i}", f"b{i}"], [ranking("w", a=1, b=1)], prompt=f"Q{i}") for i in range(60)]
    with pytest.raises(BadInputError, match=r"the train split has \d+ pairs, all of them ties on criterion 'overall'"):
        run(tmp_path, ties)
    assert not (tmp_path / "preferences" / "items.parquet").exists()


def test_a_criterion_nobody_labeled_is_refused_with_those_that_are(tmp_path: Path) -> None:
    tone = [group([f"a{i}", f"b{i}"], [choice("a", "b") | {"criterion": "tone"}], prompt=f"Q{i}") for i in range(60)]
    with pytest.raises(BadInputError, match=r"(?s)left out: .*there are labels on 'tone'"):
        run(tmp_path, tone)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    pairs = [group([f"a{i}", f"b{i}"], [choice("a", "b")], prompt=f"Q{i}") for i in range(60)]
    with pytest.raises(BadInputError, match="the test split has 0 answers and no compared pair"):
        run(tmp_path, pairs, train=0.5, validation=0.5, calibration=0.0, test=0.0)
