"""The step: real files in, items and pairs out; a corpus from which nothing can be learnt is refused in words."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import DividedPairs, PreferenceEvidence
from rewardloop.preferences import parts
from rewardloop.records import Message
from rewardloop.snapshots import write_rows
from rewardloop.steps.build_preferences import build_preferences
from tests.unit.preferences.crowd import crowd
from tests.unit.preferences.feedback import choice, frame, group, ranking, rated_texts


def run(tmp_path: Path, groups: list[Any], preferences: dict[str, Any] | None = None, **splits: float) -> Path:
    settings = Settings.model_validate(
        {
            "organization": "acme",
            "model": {"base": "random:tiny"},
            "splits": splits,
            "preferences": preferences or {},
            "evaluation": {"bootstrap_samples": 100},
        }
    )
    validated = tmp_path / "validated"
    validated.mkdir()
    write_rows(validated, frame(groups).with_columns(pl.lit("digest").alias("batch")), datetime.now(UTC))
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
    assert evidence.labelers == []
    assert "no labeler with an identity" in evidence.reliability
    assert evidence.agreement[0].segment == "all"
    assert evidence.agreement[0].measurement == "interval"
    assert (folder / "steps" / "build_preferences.json").is_file()


def test_a_large_corpus_gives_the_same_evidence_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [*crowd({"good": 8}, pairs=120, segment="south").groups, *crowd({"good": 8}, pairs=80).groups]
    evidences = []
    for name, least in (("whole", 10_000), ("parts", 1)):
        monkeypatch.setattr(parts, "LARGE", least)
        monkeypatch.setattr(parts, "_PART", 30)
        (tmp_path / name).mkdir()
        run(tmp_path / name, groups, {"reliability": {"method": "none"}})
        evidences.append(evidence_of(tmp_path / name))
    whole, cut = evidences
    assert cut.reliability.startswith(whole.reliability)
    same = {"reliability": "", "divided": []}
    assert cut.model_copy(update=same) == whole.model_copy(update=same)
    assert len(cut.divided) == len(whole.divided)


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


def evidence_of(tmp_path: Path) -> PreferenceEvidence:
    text = (tmp_path / "preferences" / "evidence" / "preferences.json").read_bytes()
    return PreferenceEvidence.model_validate_json(text)


def test_labelers_segments_and_divided_pairs_are_evidence(tmp_path: Path) -> None:
    run(tmp_path, crowd({"good": 8, "random": 1}, pairs=300, votes=4, segment="x").groups)
    evidence = evidence_of(tmp_path)
    assert evidence.labelers_total == 9
    assert (evidence.labelers[0].labeler, evidence.labelers[0].findings) == ("random-0", ["answers at random"])
    assert evidence.reliability.startswith("votes weighted by reliability")
    (segment,) = evidence.segments
    assert (segment.segment, segment.labels, segment.labelers) == ("x", 1200, 9)
    assert segment.alpha == evidence.agreement[0].alpha
    assert len(evidence.divided) == 20
    assert all(pair.votes_a and pair.votes_b for pair in evidence.divided)
    assert evidence.divided[0].labelers
    listed = DividedPairs.model_validate_json((tmp_path / "preferences" / "evidence" / "divided.json").read_bytes())
    assert listed.pairs == evidence.divided


def test_people_who_disagree_are_refused_with_the_pairs_that_divide_them(tmp_path: Path) -> None:
    groups = crowd({"random": 6}, pairs=200).groups
    message = r"criterion 'overall' is refused, people agree too little: .* is -?0\.0\d+ \(95% interval .*divided.json"
    with pytest.raises(BadInputError, match=message):
        run(tmp_path, groups, {"min_agreement": 0.4})
    evidence = evidence_of(tmp_path)
    assert [line.refused for line in evidence.agreement] == [True]
    assert evidence.divided
    assert (tmp_path / "preferences" / "evidence" / "divided.json").is_file()
    assert not (tmp_path / "preferences" / "items.parquet").exists()


def test_agreement_that_cannot_be_computed_is_refused_where_there_is_a_limit(tmp_path: Path) -> None:
    groups = [group([f"a{i}", f"b{i}"], [choice("a", "b", "w")], prompt=f"Q{i}") for i in range(60)]
    with pytest.raises(BadInputError, match="cannot be computed: no two people judged the same thing"):
        run(tmp_path, groups, {"min_agreement": {"overall": -1.0}})


def test_another_criterion_is_refused_in_the_evidence_only(tmp_path: Path) -> None:
    good = crowd({"good": 6}, pairs=200, right=0.95).groups
    tone = [label | {"criterion": "tone"} for label in (choice("a", "b", "good-0"), choice("b", "a", "good-1"))]
    extra = [group([f"c{i}", f"d{i}"], tone, prompt=f"T{i}") for i in range(20)]
    run(tmp_path, [*good, *extra], {"min_agreement": {"overall": 0.5, "tone": 0.5}})
    assert {line.criterion: line.refused for line in evidence_of(tmp_path).agreement} == {
        "overall": False,
        "tone": True,
    }


def test_a_limit_for_a_criterion_without_labels_is_refused(tmp_path: Path) -> None:
    groups = crowd({"good": 6}, pairs=100).groups
    with pytest.raises(BadInputError, match="no label is on criterion 'overal'; criteria are 'overall'"):
        run(tmp_path, groups, {"min_agreement": {"overal": 0.5}})


def test_a_segment_with_three_items_is_judged_alone(tmp_path: Path) -> None:
    few = crowd({"good": 3}, pairs=3, segment="few").groups
    many = [
        one.model_copy(update={"prompt": (Message(role="user", content=f"Another question {i}?"),)})
        for i, one in enumerate(crowd({"good": 6}, pairs=200, segment="many").groups)
    ]
    run(tmp_path, [*few, *many])
    lines = {line.segment: line for line in evidence_of(tmp_path).segments}
    assert lines["few"].labels == 9
    assert lines["few"].agreement == {}
    of_few = [line for line in evidence_of(tmp_path).labelers if line.segment == "few"]
    assert [line.reliability for line in of_few] == [None] * 3
