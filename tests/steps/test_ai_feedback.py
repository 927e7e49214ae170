"""A judge's batch beside people's: through validation and preferences into the report, marked as what it is."""

from pathlib import Path
from typing import Any

import polars as pl

from rewardloop.evidence import PreferenceEvidence, ValidationEvidence
from rewardloop.steps.build_preferences import build_preferences
from tests import run_folders
from tests.report_pages import rendered
from tests.steps.test_validate_feedback import Place
from tests.unit.preferences.feedback import choice
from tests.unit.preferences.test_model_labelers import by

COUNT = 200


def row(number: int, labels: list[dict[str, Any]]) -> dict[str, Any]:
    texts = {"a": f"calm answer {number}", "b": f"lively answer {number}!"}
    return {
        "group_id": str(number),
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "responses": [{"response_id": name, "content": text} for name, text in texts.items()],
        "labels": labels,
    }


def test_a_batch_of_one_judge_passes_and_its_weight_is_in_the_report(tmp_path: Path) -> None:
    place = Place(tmp_path, min_labelers_per_item=2, min_agreement=0.2)
    people = [
        row(i, [choice(*("ba" if i % 4 else "ab"), who=who) for who in ("ann", "ben", "cem")]) for i in range(COUNT)
    ]
    # The judge errs on each tenth pair; fifty more groups nobody else has seen.
    said = ["ab" if (i % 4 == 0) != (i % 10 == 0) else "ba" for i in range(COUNT + 50)]
    judged = [row(i, [by("judge:helpful:0123abcd", choice(*said[i]))]) for i in range(COUNT + 50)]
    place.ingest("people.jsonl", people)
    judge = place.ingest("judge.jsonl", judged)
    folder = place.validate()
    validation = ValidationEvidence.model_validate_json((folder / "evidence" / "validation.json").read_bytes())
    assert [verdict.refused for verdict in validation.batches] == [False, False]

    build_preferences(
        validated=folder,
        store=str(tmp_path / "store"),
        settings=place.settings.section("preferences", "splits", "evaluation"),
        code_version="1",
        preferences=tmp_path / "preferences",
    )
    written = (tmp_path / "preferences" / "evidence" / "preferences.json").read_bytes()
    evidence = PreferenceEvidence.model_validate_json(written)
    line = next(line for line in evidence.labelers if line.kind == "model")
    assert line.alpha_with_people is not None
    assert line.votes > COUNT
    assert 0.5 < line.weight == line.alpha_with_people.low < line.alpha_with_people.value < 0.95
    assert "1 models or programs beside people, weighted by their agreement with people" in evidence.reliability
    assert next(one for one in evidence.agreement if one.segment == "all").labelers == 3
    assert any("no person judged it" in reason for reason in evidence.left_out)
    pairs = pl.read_parquet(tmp_path / "preferences" / "pairs.parquet")
    items = pl.read_parquet(tmp_path / "preferences" / "items.parquet")
    alone = pairs.join(items.filter(labeler_kind="model").select(a="item"), on="a", how="semi")
    assert set(alone["split"]) <= {"train", "validation"}
    assert alone["weight"].unique().to_list() == [line.weight]
    assert judge in str(items["batches"].to_list())

    run = run_folders.blessed_run(tmp_path / "run")
    next(run.glob("**/evidence/preferences.json")).write_bytes(written)
    html, page = rendered(run)
    assert "Alpha with people" in page.text
    assert f"{line.alpha_with_people.value:.3f}" in page.text
    assert '<span class="soft">model</span>' in html
