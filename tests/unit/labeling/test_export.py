"""``rewardloop export``: what leaves the store, by which rule, and what is said to be left behind."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rewardloop.cli.export import export
from rewardloop.cli.ingest import ingest
from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Taken, importers
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import FeedbackStore
from rewardloop.labeling.export import export_feedback
from rewardloop.labeling.preference_files import group_of
from rewardloop.records import FeedbackGroup
from rewardloop.tables import feedback_frame

app = typer.Typer()
app.command()(export)


def group(name: str, labels: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A prompt with the answers one, two and three."""
    return {
        "group_id": name,
        "prompt": [{"role": "user", "content": f"question {name}"}],
        "responses": [{"response_id": id, "content": f"{id} of {name}"} for id in ("one", "two", "three")],
        "labels": labels,
        **more,
    }


def choice(chosen: str, rejected: str, labeler: str | None = "w1", **more: Any) -> dict[str, Any]:
    return {"kind": "choice", "labeler": labeler, "chosen": chosen, "rejected": rejected, **more}


VOTES = group("v", [choice("one", "two", "w1"), choice("one", "two", "w2"), choice("two", "one", "w3")])
EVEN = group("e", [choice("one", "two", "w1"), choice("two", "one", "w2")])
RANKS = group("r", [{"kind": "ranking", "labeler": "w1", "ranks": {"one": 1, "two": 2, "three": 2}}])
RATED = group("s", [{"kind": "rating", "labeler": "w1", "scores": {"one": 4.5, "two": 1}, "scale": [1, 5]}])
OTHER = group("o", [choice("one", "two", criterion="tone")])
CONTROL = group("c", [choice("one", "two")], sampling="control")
TURNS = group("t", [choice("one", "two")]) | {
    "prompt": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
}


def written(groups: list[dict[str, Any]], output: Path, **options: Any) -> Any:
    """The rows of the file, and what was said."""
    records = [FeedbackGroup.model_validate(one) for one in groups]
    rows = feedback_frame((f"f:{place}", one) for place, one in enumerate(records)).sort("content", "record")
    asked = {"format": "trl", "rule": "majority", "criterion": "overall", "left_out": {}} | options
    done = export_feedback(rows, output, **asked)
    if output.suffix == ".parquet":
        return pl.read_parquet(output), done
    return [json.loads(line) for line in output.read_text().splitlines()], done


def test_the_majority_of_several_labels_is_one_row_and_the_rest_is_said(tmp_path: Path) -> None:
    rows, done = written([VOTES, EVEN, OTHER, CONTROL], tmp_path / "a.jsonl")
    assert rows == [{"prompt": "question v", "chosen": "one of v", "rejected": "two of v"}]
    said = {reason.partition(":")[0]: count for reason, count in done.not_carried.items()}
    assert said == {
        "pairs of several labels, of which one row is left": 1,
        "pairs whose answers are even": 1,
        "labels on other criteria": 1,
        "groups without a label on the criterion that compares two answers": 1,
        "control items": 1,
    }


def test_each_label_can_have_rows_of_its_own(tmp_path: Path) -> None:
    rows, done = written([VOTES, RANKS], tmp_path / "a.jsonl", rule="labels")
    assert sorted((row["chosen"], row["rejected"]) for row in rows) == [
        ("one of r", "three of r"),
        ("one of r", "two of r"),
        ("one of v", "two of v"),
        ("one of v", "two of v"),
        ("two of v", "one of v"),
    ]
    assert [count for reason, count in done.not_carried.items() if "ties" in reason] == [1]


def of_judge(label: dict[str, Any], kind: str = "model") -> dict[str, Any]:
    return label | {"labeler": f"{kind}:{label['labeler']}", "labeler_kind": kind}


@pytest.mark.parametrize("rule", ["majority", "labels"])
def test_models_and_programs_have_no_vote_where_people_judged(tmp_path: Path, rule: str) -> None:
    against = [of_judge(choice("two", "one", who)) for who in ("j1", "j2")]
    against.append(of_judge({"kind": "rating", "labeler": "r", "scores": {"one": 0, "two": 1}}, "signal"))
    mixed = [
        group("v", [choice("one", "two", "w1"), *against]),
        group("tie", [{"kind": "ranking", "labeler": "w1", "ranks": {"one": 1, "two": 1}}, *against]),
    ]
    rows, done = written([*mixed, VOTES | {"labels": against}], tmp_path / "a.jsonl", rule=rule)
    assert rows == [{"prompt": "question v", "chosen": "one of v", "rejected": "two of v"}]
    said = {reason.partition(":")[0]: count for reason, count in done.not_carried.items()}
    assert said["labels of models or programs on pairs that people judged"] == 9
    assert said["pairs whose answers are even"] == 1
    assert "pairs that models or programs alone judged" not in said


def test_rows_of_models_alone_are_counted(tmp_path: Path) -> None:
    """People judged the first pair of three, and that one only."""
    ranks = of_judge({"kind": "ranking", "labeler": "j", "ranks": {"two": 1, "one": 2, "three": 3}})
    rows, done = written([group("v", [choice("one", "two", "w1"), ranks])], tmp_path / "a.jsonl")
    assert {(row["chosen"], row["rejected"]) for row in rows} == {
        ("one of v", "two of v"),
        ("one of v", "three of v"),
        ("two of v", "three of v"),
    }
    said = {reason.partition(":")[0]: count for reason, count in done.not_carried.items()}
    assert said == {
        "labels of models or programs on pairs that people judged": 1,
        "pairs that models or programs alone judged": 2,
    }


def test_ratings_give_margins_and_parquet_has_the_column_only_then(tmp_path: Path) -> None:
    rows, done = written([RATED, VOTES], tmp_path / "a.jsonl")
    assert {row["chosen"]: row.get("margin") for row in rows} == {"one of s": 3.5, "one of v": None}
    assert (done.rows, done.with_margin) == (2, 1)
    table, _ = written([RATED], tmp_path / "a.parquet")
    assert table.rows() == [("question s", "one of s", "two of s", 3.5)]
    table, _ = written([VOTES], tmp_path / "b.parquet", format="trl-conversational")
    assert table.columns == ["prompt", "chosen", "rejected"]
    assert table["chosen"].to_list() == [[{"role": "assistant", "content": "one of v"}]]


def test_turns_need_messages(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no row can be written in this format"):
        written([TURNS], tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []
    ((row,), done) = written([TURNS], tmp_path / "a.jsonl", format="trl-conversational")
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert done.not_carried == {}
    _, done = written([TURNS, VOTES], tmp_path / "b.jsonl")
    assert done.not_carried["pairs whose prompt is more than one user's message: take trl-conversational"] == 1


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n:"), min_size=1, max_size=30)
READABLE = TEXT.filter(lambda text: bool(text.strip()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompt=st.one_of(st.just("\n\nHuman: a\n\nAssistant:"), st.just("Human: b\n\nAssistant:"), READABLE, st.just("")),
    one=READABLE,
    other=READABLE,
    conversational=st.booleans(),
    margin=st.sampled_from([None, 2.5]),
)
def test_what_is_written_is_read_back(
    tmp_path: Path, prompt: str, one: str, other: str, conversational: bool, margin: float | None
) -> None:
    if one == other:
        return
    labels: list[dict[str, Any]] = [choice("a", "b", None)]
    if margin:
        labels.append({"kind": "rating", "scores": {"a": margin, "b": 0}})
    record = {
        "group_id": "g",
        "prompt": [{"role": "user", "content": prompt}] if prompt else [],
        "responses": [{"response_id": "a", "content": one}, {"response_id": "b", "content": other}],
        "labels": labels,
    }
    output = tmp_path / "a.jsonl"
    output.unlink(missing_ok=True)
    try:
        written([record], output, format="trl-conversational" if conversational else "trl")
    except BadInputError:  # a prompt that would be read as a transcript, by which texts lose their spaces
        assert not conversational
        assert prompt.rstrip().endswith("Assistant:")
        return
    pairs = importers()["pairs"]
    limits = Settings.model_validate({"organization": "acme", "model": {"base": "random:tiny"}}).validation
    (source,) = read_sources([output])
    (found,) = pairs.read(Table.of(source), pairs.options(), limits)
    assert isinstance(found, Taken)
    back = found.group
    texts = {response.response_id: response.content for response in back.responses}
    assert [turn.content for turn in back.prompt] == ([prompt] if prompt else [])
    assert {texts[key]: value for key, value in back.labels[0].values().items()} == {one: 1, other: 0}
    if margin:
        assert {texts[key]: value for key, value in back.labels[1].values().items()} == {one: margin, other: 0}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REWARDLOOP_LABELER_KEY", "a key of the tests")
    path = tmp_path / "rewardloop.yaml"
    path.write_text(
        f"organization: acme\nhome: {tmp_path / 'home'}\nstore: {{url: {tmp_path / 'store'}}}\n"
        "model: {base: random:tiny}\nsplits: {golden: 0.25, anchors: 2}\nvalidation: {min_groups_per_batch: 1}\n"
    )
    return path


def take(tmp_path: Path, config: Path, *groups: dict[str, Any]) -> FeedbackStore:
    source = tmp_path / f"in{len(list(tmp_path.glob('in*')))}.jsonl"
    source.write_text("".join(json.dumps(one) + "\n" for one in groups))
    ingest([source], config)
    return FeedbackStore.open(str(tmp_path / "store"))


def test_golden_documents_stay_unless_they_are_asked_for(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = take(tmp_path, config, *(group(f"g{n}", [choice("one", "two")]) for n in range(8)))
    assert len(store.golden_documents()) == 2
    export(tmp_path / "out.jsonl", "canonical", config)
    said = capsys.readouterr().out
    assert "6 rows (canonical) from 6 groups of 1 batches" in said
    assert "left out: 2 groups golden: never trained on" in said
    golden = {record["group_id"] for record in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    export(tmp_path / "all.jsonl", "trl", config, golden=True)
    assert "8 rows (trl by majority on 'overall')" in capsys.readouterr().out
    assert len(golden) == 6
    shares = 0
    for split in ("train", "validation", "calibration", "test"):
        output = tmp_path / f"{split}.jsonl"
        result = CliRunner().invoke(app, [str(output), "--format", "canonical", "-c", str(config), "--split", split])
        if result.exit_code:
            assert "nothing is left to export" in str(result.exception)
        else:
            shares += len(output.read_text().splitlines())
    assert shares == 6


def test_canonical_records_come_back_as_they_were(tmp_path: Path, config: Path) -> None:
    everything = group(
        "x",
        [
            {"kind": "ranking", "labeler": None, "ranks": {"one": 1, "two": 1, "three": 2}},
            {"kind": "rating", "labeler": None, "criterion": "tone", "scores": {"one": 4.25}, "scale": [1, 5]},
            {"kind": "acceptable", "labeler": None, "labeler_kind": "model", "values": {"one": True, "three": False}},
            choice("three", "one", None),
        ],
        labeled_at="2026-01-31T12:00:00Z",
        segment="chat",
        source="desk",
        sampling="active",
        document_id="d1",
    )
    store = take(tmp_path, config, everything, RATED)
    (batch,) = store.batches()
    frame = store.read_batch(batch.digest)
    records = [group_of(row) for row in frame.iter_rows(named=True)]
    assert feedback_frame(zip(frame["place"], records, strict=True)).equals(frame)
    export(tmp_path / "out.jsonl", "canonical", config, golden=True)
    back = [FeedbackGroup.model_validate_json(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(back, key=lambda one: one.group_id) == sorted(records, key=lambda one: one.group_id)


def test_batches_can_be_named_and_files_are_not_overwritten(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(tmp_path, config, *(group(f"g{n}", [choice("one", "two")]) for n in range(4)))
    store = take(tmp_path, config, group("late", [choice("two", "one")]))
    late = store.batches()[-1].digest
    output = tmp_path / "out.jsonl"
    export(output, "trl", config, batch=[late[:8]])
    export(output, "trl", config, batch=[late])
    assert json.loads(output.read_text())["chosen"] == "two of late"
    with pytest.raises(BadInputError, match=r"out.jsonl: is there with other content; name a new file"):
        export(output, "trl", config)
    assert json.loads(output.read_text())["chosen"] == "two of late"
    with pytest.raises(BadInputError, match=r"expected a name that ends in .jsonl or .parquet"):
        export(tmp_path / "out.csv", "trl", config)
    with pytest.raises(BadInputError, match="--split golden: expected train, validation, calibration, test"):
        export(output, "trl", config, split=["golden"])
    with pytest.raises(BadInputError, match="canonical records are JSON lines"):
        export(tmp_path / "out.parquet", "canonical", config)
    assert not list(tmp_path.glob(".out*"))
