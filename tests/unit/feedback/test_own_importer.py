"""Importers of the user's own: a Python file named with ``--importer``, and the examples in ``docs/examples``."""

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewardloop.config import Settings, ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers import base
from rewardloop.feedback.importers.base import (
    Outcome,
    Rejected,
    Repeated,
    Skipped,
    Taken,
    choose,
    importers,
    load_importer,
    reads_whole,
)
from rewardloop.feedback.importers.whole import tables_of
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.reading import Source, read_sources
from rewardloop.feedback.store import FeedbackStore

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

THUMBS = '''
"""Thumbs up or down."""
from collections.abc import Iterator

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import Column, LabelOptions, Outcome, Taken, content_id, importer
from rewardloop.feedback.importers.table import Table, raw_row, text_of
from rewardloop.records import Acceptable, FeedbackGroup, Response


class ThumbsOptions(LabelOptions):
    answer: Column = "answer"


def _recognizes(table: Table, options: ThumbsOptions) -> str | None:
    return None


@importer("thumbs", "thumbs up or down", ThumbsOptions, recognizes=_recognizes)
def thumbs(table: Table, options: ThumbsOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    for record in table.rows():
        text = text_of(record, table.required_column(options, "answer"))
        key = content_id(text)
        label = Acceptable(labeler_kind="signal", values={key: record.values["thumb"] == "up"})
        group = FeedbackGroup(group_id=key, responses=(Response(response_id=key, content=text),), labels=(label,))
        yield Taken(group, (raw_row(record, keep=[]),))
'''


@pytest.fixture(autouse=True)
def _no_importer_stays() -> Iterator[None]:
    importers()
    known, own = dict(base._IMPORTERS), dict(base._OWN)
    yield
    base._IMPORTERS.clear()
    base._IMPORTERS.update(known)
    base._OWN.clear()
    base._OWN.update(own)
    importers.cache_clear()


def written(folder: Path, text: str, name: str = "thumbs.py") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def outcomes(paths: list[Path], options: dict[str, str] | None = None) -> list[Outcome]:
    tables = tables_of(read_sources(paths), "auto")
    choice = choose(tables, "auto", options or {}, {})
    return [one for table in tables for one in choice.importer.read(table, choice.options, ValidationSettings())]


def test_a_file_that_is_named_is_run_and_its_importer_is_taken(tmp_path: Path) -> None:
    load_importer(written(tmp_path, THUMBS))
    labels = written(tmp_path, "answer,thumb\nyes,up\nno,down\n", "labels.csv")
    groups = [one.group for one in outcomes([labels]) if isinstance(one, Taken)]
    assert [list(group.labels[0].values().values()) for group in groups] == [[1.0], [0.0]]


def test_the_example_of_the_docs_refuses_what_it_does_not_know(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "own-importer.md").read_text(), re.DOTALL)
    load_importer(written(tmp_path, code))
    thumbs = ["up", "up", "down", "meh", "UP"]
    rows = [*(f"yes,{thumb}" for thumb in thumbs), *(f"no {number},down" for number in range(40))]
    labels = written(tmp_path, "\n".join(["answer,thumb", *rows, "no 1"]), "labels.csv")
    lenient = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"max_failed_share": 0.1})}
    )
    report = ingest([labels], store, lenient, key=key)
    assert (report.rows_taken, report.rows_quarantined, report.groups, report.labels) == (43, 3, 42, 43)
    assert "labels.csv:5: thumb: found \"meh\"; expected 'up' or 'down'" in report.reasons
    shorter = (EXAMPLES.parent / "feedback-formats.md").read_text()
    for line in code[code.index("@importer") :].splitlines():
        assert f"{line}\n" in shorter, "the two pages show one example"


def test_the_batch_names_the_version_of_the_file(tmp_path: Path) -> None:
    labels = tables_of([Source("labels.csv", "answer,thumb\nyes,up\n", "0" * 64)], "auto")
    load_importer(written(tmp_path, THUMBS))
    first = choose(labels, "auto", {}, {})
    load_importer(written(tmp_path, THUMBS + "\n# changed\n"))
    second = choose(labels, "auto", {}, {})
    assert first.importer.name.startswith("thumbs@")
    assert second.importer.name.startswith("thumbs@")
    assert first.importer.name != second.importer.name
    assert re.fullmatch(r"of --importer thumbs.py, SHA-256 [0-9a-f]{12}", first.reason)
    assert choose(labels, "thumbs", {}, {}).importer.name == second.importer.name


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (THUMBS, "thumbs.txt", "is not a Python file; expected FILE.py"),
        ("x = 1\n", "thumbs.py", "registers no importer; expected a function with @importer"),
        ("x = 1\n1 / 0\n", "thumbs.py", "fails at line 2: ZeroDivisionError: division by zero"),
        ("x = 1\ndef f(:\n", "thumbs.py", "fails at line 2: SyntaxError"),
        (THUMBS.replace('"thumbs"', '"pairs"'), "thumbs.py", "registers 'pairs', which is there already"),
    ],
)
def test_files_that_give_no_importer(tmp_path: Path, text: str, name: str, message: str) -> None:
    before = dict(importers())
    with pytest.raises(BadInputError, match=message):
        load_importer(written(tmp_path, text, name))
    assert dict(importers()) == before


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"--importer .*nowhere.py: cannot be read: No such file"):
        load_importer(tmp_path / "nowhere.py")


def test_two_own_importers_need_a_format(tmp_path: Path) -> None:
    load_importer(written(tmp_path, THUMBS))
    load_importer(written(tmp_path, THUMBS.replace('"thumbs"', '"hands"'), "hands.py"))
    with pytest.raises(BadInputError, match=r"gives several formats: thumbs, hands. Name one with --format"):
        choose([], "auto", {}, {})


def ukp(tmp_path: Path, *votes: tuple[str, str], texts: tuple[str, str] = ("one", "two")) -> list[Outcome]:
    load_importer(EXAMPLES / "ukpconvarg1.py")
    assignments = "".join(
        f"<mTurkAssignment><turkID>{who}</turkID><value>{value}</value></mTurkAssignment>" for who, value in votes
    )
    pair = (
        f"<annotatedArgumentPair><id>arg1_arg2</id><arg1><stance>Yes</stance><text>{texts[0]}</text></arg1>"
        f"<arg2><text>{texts[1]}</text></arg2><debateMetaData><title>Tea?</title></debateMetaData>"
        f"<mTurkAssignments>{assignments}</mTurkAssignments></annotatedArgumentPair>"
    )
    return outcomes([written(tmp_path, f'<?xml version="1.0"?><list>{pair}</list>', "debate.xml")])


def test_ukpconvarg1_reads_each_vote(tmp_path: Path) -> None:
    found = ukp(tmp_path, ("w1", "a2"), ("w2", "equal"), ("w1", "a2"), ("w1", "a1"), ("w3", "both"), ("", "a1"))
    assert [type(one) for one in found] == [Taken, Taken, Repeated, Rejected, Rejected, Rejected]
    first, second = found[0], found[1]
    assert isinstance(first, Taken)
    assert isinstance(second, Taken)
    assert first.group.prompt[0].content == "Tea?\nArgue for: Yes"
    assert first.group.labels[0].values() == {"a2": 1.0, "a1": 0.0}
    assert second.group.labels[0].values() == {"a1": 1.0, "a2": 1.0}
    reasons = [one.reason for one in found if isinstance(one, Rejected)]
    assert reasons == [
        "its worker says otherwise of pair arg1_arg2 before",
        "value: found 'both'; expected a1, a2 or equal",
        "turkID: is empty; expected who voted",
    ]


def test_ukpconvarg1_refuses_equal_arguments_and_broken_files(tmp_path: Path) -> None:
    (only,) = ukp(tmp_path, ("w1", "a2"), texts=("same", "same"))
    assert isinstance(only, Rejected)
    assert only.reason == "both arguments are the same text"
    with pytest.raises(BadInputError, match=r"broken.xml: is not XML: "):
        outcomes([written(tmp_path, "<list><annotatedArgumentPair></list>", "broken.xml")])


def test_vader_refuses_texts_whose_means_disagree(tmp_path: Path) -> None:
    load_importer(EXAMPLES / "vader.py")
    assert reads_whole("auto")
    texts = written(tmp_path, '1\t2.0\tSo "nice\r\n2_3\t1.5\tfine\r\n3\t0\tlost\r\n4\t1\n', "texts.txt")
    ratings = written(tmp_path, "\ufeff1\t2.004\t0.8\t[1, 3]\r\n2_3\t-1.5\t0.1\t[-1, -2]\r\n", "ratings.txt")
    found = outcomes([texts], {"ratings": str(ratings), "default_segment": "tweets"})
    first, *others = found
    assert isinstance(first, Taken)
    assert first.group.responses[0].content == 'So "nice'
    assert [label.values() for label in first.group.labels] == [{"1": 1.0}, {"1": 3.0}]
    assert first.group.segment == "tweets"
    assert [one.reason for one in others if isinstance(one, Rejected)] == [
        "the mean is 1.5 here and -1.5 in the file of ratings, which may be of another text",
        "id '3' has no ratings in ratings.txt",
        "has 2 cells; expected id, mean and text",
    ]
    with pytest.raises(BadInputError, match=r"texts.txt: name the file with its ratings: --option ratings=FILE"):
        outcomes([texts])


def test_a_whole_text_that_is_no_table_is_ingested(tmp_path: Path, settings: Settings, store: FeedbackStore) -> None:
    """Its first line opens a quote that never closes: looked at as a table, it could not be read at all."""
    load_importer(EXAMPLES / "vader.py")
    texts = written(tmp_path, '"1\t2\tone\n2\t-2\ttwo\n3\t1\tthree\n', "texts.txt")
    ratings = written(tmp_path, '"1\t2\t0\t[2, 2]\n2\t-2\t0\t[-2]\n3\t1\t0\t[1]\n', "ratings.txt")
    report = ingest([texts], store, settings, key=b"key", options={"ratings": str(ratings)})
    assert (report.rows_in, report.rows_taken, report.groups, report.labels) == (3, 3, 3, 4)
    (batch,) = store.batches()
    assert batch.importer == report.importer
    assert re.fullmatch("vader@[0-9a-f]{8}", batch.importer)
    assert set(batch.options["ratings"]) == {"name", "sha256"}


def test_finegrained_rlhf_keeps_each_verdict(tmp_path: Path) -> None:
    load_importer(EXAMPLES / "finegrained_rlhf.py")
    row = {"question": "Q", "passages": [["t", "p1", "p2"]], **{f"prediction {n}": f"answer {n}" for n in range(1, 5)}}
    rows = [row | {"preference": verdicts} for verdicts in ([0, 1, 2, 1, 0, 2], [0, 1, 2, 1, 0, 3], [0, 1])]
    labels = written(tmp_path, json.dumps([*rows, row | {"preference": [0] * 6, "prediction 2": "answer 1"}]), "d.json")
    first, *others = outcomes([labels], {"passages": "with"})
    assert isinstance(first, Taken)
    assert first.group.prompt[0].content == "p1\np2\n\nQ"
    # (1,2) tie, (1,3) first, (1,4) second, (2,3) first, (2,4) tie, (3,4) second
    assert [label.values() for label in first.group.labels] == [
        {"1": 1.0, "2": 1.0},
        {"1": 1.0, "3": 0.0},
        {"4": 1.0, "1": 0.0},
        {"2": 1.0, "3": 0.0},
        {"2": 1.0, "4": 1.0},
        {"4": 1.0, "3": 0.0},
    ]
    assert [one.reason for one in others if isinstance(one, Rejected)] == [
        "preference: found 3; expected 0 (a tie), 1 or 2",
        "preference: found [0, 1]; expected 6 verdicts",
        "two predictions are the same text",
    ]


def test_real_toxicity_prompts_become_ratings_of_a_model(tmp_path: Path) -> None:
    load_importer(EXAMPLES / "real_toxicity_prompts.py")
    rows = [
        {"prompt": {"text": "He said"}, "continuation": {"text": " thanks.", "toxicity": 0.25, "insult": 0.5}},
        {"prompt": {"text": "He said"}, "continuation": {"text": " thanks.", "toxicity": None}},
        {"prompt": {"text": "He said"}, "continuation": {"text": " thanks.", "toxicity": 1.25}},
        {"prompt": "He said", "continuation": {"text": " thanks.", "toxicity": 0.25}},
    ]
    labels = written(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "val.jsonl")
    first, *others = outcomes([labels])
    assert isinstance(first, Taken)
    (label,) = first.group.labels
    assert (label.kind, label.labeler, label.labeler_kind, label.criterion) == (
        "rating",
        "perspective",
        "model",
        "no toxicity",
    )
    assert label.values() == {"c": 0.75}
    assert [type(one) for one in others] == [Skipped, Rejected, Rejected]
    assert [one.reason for one in others if isinstance(one, Rejected)] == [
        "toxicity: found 1.25; expected 0 to 1",
        'prompt: found "He said"; expected an object with a text',
    ]


@pytest.mark.slow
def test_the_real_archive_of_ukpconvarg1_is_read_whole(tmp_path: Path) -> None:
    folder = Path(os.environ.get("REWARDLOOP_TEST_DATA", "data")) / "ukpconvarg1"
    archive = folder / "UKPConvArg1-full-XML.tar.gz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there (REWARDLOOP_TEST_DATA names the folder of public data sets)")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    load_importer(EXAMPLES / "ukpconvarg1.py")
    found = outcomes(sorted(tmp_path.rglob("*.xml")))
    assert Counter(type(one) for one in found) == {Taken: 84_370, Rejected: 75}
    assert {one.reason for one in found if isinstance(one, Rejected)} == {"both arguments are the same text"}
    taken = [one.group for one in found if isinstance(one, Taken)]
    assert len({group.labels[0].labeler for group in taken}) == 3_815
    assert len({group.group_id for group in taken}) == 16_912
