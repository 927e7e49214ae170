"""`rewardloop ingest`: how columns are named, an importer of one's own, and a run that writes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rewardloop.cli.main import app
from rewardloop.cli.reading import mapped_columns
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers import base

OWN = '''
"""Thumbs."""
from rewardloop.feedback.importers.base import Column, LabelOptions, Taken, content_id, importer
from rewardloop.feedback.importers.table import raw_row
from rewardloop.records import Acceptable, FeedbackGroup, Response


class ThumbsOptions(LabelOptions):
    answer: Column = "answer"


def _recognizes(table, options):
    return "it has thumbs" if "thumb" in table.columns else None


@importer("thumbs", "thumbs up or down", ThumbsOptions, recognizes=_recognizes)
def thumbs(table, options, limits):
    for record in table.rows():
        text = record.values[options.answer]
        key = content_id(text)
        label = Acceptable(values={key: record.values["thumb"] == "up"})
        group = FeedbackGroup(group_id=key, responses=(Response(response_id=key, content=text),), labels=(label,))
        yield Taken(group, (raw_row(record, keep=["thumb"]),))
'''


@pytest.fixture
def home(tmp_path: Path) -> Path:
    settings = {
        "organization": "acme",
        "home": str(tmp_path / "home"),
        "store": {"url": str(tmp_path / "store")},
        "model": {"base": "random:tiny"},
    }
    (tmp_path / "rewardloop.yaml").write_text(json.dumps(settings))
    rows = "".join(f"{n},text {n},w{n % 2},{n % 5}\n" for n in range(20))
    (tmp_path / "labels.csv").write_text(f"nr,words,who,points\n{rows}")
    return tmp_path


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["ingest", "-c", str(home / "rewardloop.yaml"), *words])


MAP = "text=words,labeler=who,score=points"


def test_map_names_several_columns_at_once(home: Path) -> None:
    found = run(home, str(home / "labels.csv"), "--map", f"{MAP},id=nr")
    assert found.exit_code == 0, found.output
    assert "20 rows = 20 taken" in found.output
    assert "20 groups, 20 labels by 2 labelers" in found.output
    again = run(
        home, str(home / "labels.csv"), "--map", "text=words", "--map", "labeler=who", "--column", "score=points"
    )
    assert "nothing new" in again.output or "taken" in again.output


def test_a_dry_run_writes_nothing_and_makes_no_key(home: Path) -> None:
    before = sorted(home.rglob("*"))
    found = run(home, str(home / "labels.csv"), "--map", MAP, "--dry-run")
    assert found.exit_code == 0, found.output
    assert sorted(home.rglob("*")) == before
    lines = found.output.splitlines()
    assert lines[0].startswith("labels.csv: format ratings-long (it has the columns 'words', 'who' and 'points')")
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert [record["responses"][0]["content"] for record in records] == ["text 0", "text 1", "text 2"]
    assert records[0]["labels"][0]["labeler"].startswith("l_")
    assert "rows: 20 = 20 taken, 0 quarantined, 0 duplicates, 0 skipped" in lines
    assert "groups: 20; labels: 20 (20 rating); labelers: 2" in lines
    assert "labelers are shown under names for this dry run only: there is no labeler key yet" in lines
    assert lines[-1] == "dry run: nothing was written"


def test_with_a_key_a_dry_run_shows_the_pseudonyms_of_the_store(home: Path) -> None:
    run(home, str(home / "labels.csv"), "--map", MAP)
    more = home / "more.csv"
    more.write_text((home / "labels.csv").read_text() + "99,another text,w1,3\n")
    found = run(home, str(more), "--map", MAP, "--dry-run")
    assert "for this dry run only" not in found.output
    assert "rows: 21 = 1 taken, 0 quarantined, 20 duplicates, 0 skipped" in found.output


def test_what_a_dry_run_would_refuse_ends_it_as_the_ingest(home: Path) -> None:
    path = home / "labels.csv"
    path.write_text(path.read_text().replace(",4\n", ",four\n"))
    found = run(home, str(path), "--map", MAP, "--dry-run")
    assert isinstance(found.exception, BadInputError)
    assert "4 of 20 rows (20.0%) cannot be used" in str(found.exception)
    assert "dry run: nothing was written" in found.output


@pytest.fixture
def own_importers() -> Iterator[None]:
    """A process of the command line ends with its importers; this one goes on."""
    known = dict(base.importers())
    yield
    base._OWN.clear()
    base._restore(known)


@pytest.mark.usefixtures("own_importers")
def test_an_importer_of_ones_own_is_run_only_where_it_is_named(home: Path) -> None:
    (home / "thumbs.py").write_text(OWN)
    (home / "thumbs.csv").write_text("answer,thumb\n" + "".join(f"answer {n},up\n" for n in range(9)))
    assert isinstance(run(home, str(home / "thumbs.csv"), "--dry-run").exception, BadInputError)
    found = run(home, str(home / "thumbs.csv"), "--importer", str(home / "thumbs.py"), "--dry-run")
    assert found.exit_code == 0, found.output
    assert "format thumbs@" in found.output
    assert "labels: 9 (9 acceptable); labelers: anonymous" in found.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--map", "txt=words"], "--map txt: no format knows this name. Formats and theirs:"),
        (["--column", "txt=words"], "--column txt: no format knows this name"),
        (["--option", "scael=1..5"], "--option scael: no format knows this name"),
        (
            ["--format", "pairs", "--map", "txt=words"],
            "--column txt: unknown for format pairs; allowed: chosen, rejected",
        ),
        (["--map", "text=words", "--column", "text=who"], "--column text=who: --map says text=words; name the column"),
    ],
)
def test_names_that_nobody_knows_list_those_that_are_known(home: Path, words: list[str], message: str) -> None:
    error = run(home, str(home / "labels.csv"), *words).exception
    assert isinstance(error, BadInputError)
    assert message in str(error)


def test_mapped_columns() -> None:
    assert mapped_columns(["prompt=question, response_a = answer 1", "b=c"]) == {
        "prompt": "question",
        "response_a": "answer 1",
        "b": "c",
    }
    assert mapped_columns(["a=b=c"]) == {"a": "b=c"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("prompt", "found 'prompt'; expected NAME=COLUMN,NAME=COLUMN"),
        ("a=b,", "found ''"),
        ("=b", "found '=b'"),
        ("a=b,a=c", "a is 'b' already; name the column once"),
    ],
)
def test_malformed_maps(value: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        mapped_columns([value])
