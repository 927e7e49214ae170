"""What steps kept of feedback that is forgotten goes with it, and is named; what they kept of other batches stays."""

import contextlib
import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from rewardloop.errors import BadInputError
from rewardloop.kept import Kept
from rewardloop.operation.forget import Subject
from rewardloop.preferences import parts
from rewardloop.records import text_digest
from rewardloop.steps.build_preferences import build_preferences
from rewardloop.steps.load_corpus import load_corpus
from rewardloop.steps.validate_feedback import validate_feedback
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from tests.forgetting import HERS, TEXT, WHO, Place, fill, settings_of


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(parts, "LARGE", 1)
    monkeypatch.setattr(parts, "_PART", 5)
    made = fill(tmp_path, settings_of(tmp_path), connect(None, tmp_path / "tracking", 5))
    run(made, tmp_path / "run")
    return made


def run(place: Place, folder: Path) -> None:
    """The data steps, which keep what they find; so few rows need not be enough to train on."""
    corpus, url = place.store.current_corpus(), place.settings.store.url
    place.store.write_corpus(corpus)
    load_corpus(store=url, corpus_digest=corpus.digest, code_version="1", corpus=folder / "corpus")
    validate_feedback(
        corpus=folder / "corpus",
        store=url,
        settings=place.settings.section("validation", "preferences"),
        code_version="1",
        validated=folder / "validated",
        data_docs=folder / "data_docs",
    )
    with contextlib.suppress(BadInputError):
        build_preferences(
            validated=folder / "validated",
            store=url,
            settings=place.settings.section("preferences", "splits", "evaluation"),
            code_version="1",
            preferences=folder / "preferences",
        )


def said(folder: Path) -> str:
    """Everything that kept results hold, unpacked."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            found.append(json.dumps(pl.read_parquet(path).to_dicts(), default=str))
        elif path.suffix == ".gz":
            found.append(gzip.decompress(path.read_bytes()).decode())
        elif path.is_file():
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(found)


def test_what_was_kept_of_somebody_goes_with_her(place: Place) -> None:
    kept, folder = Kept(Storage.open(place.settings.store.url)), place.folder / "store" / "kept"
    before = {one.place: kept.batches_of(one) for one in kept.results()}
    assert {"verdicts", "surveys", "labelers", "parts"} == {name.split("/")[1] for name in before}
    assert HERS in said(folder)
    (would,) = place.forget(Subject(labelers=frozenset({HERS})), dry_run=True)
    (report,) = place.forget(Subject(labelers=frozenset({HERS})))

    assert HERS not in said(folder)
    assert WHO not in said(folder)
    gone = {name for name, batches in before.items() if batches is None or batches & set(report.batches)}
    left = {one.place for one in kept.results()}
    assert left == set(before) - gone
    assert any(name.startswith("kept/verdicts/") for name in left)
    assert gone <= set(report.places)
    assert {name for name in would.places if name.startswith("kept/")} == gone

    run(place, place.folder / "again")  # nothing of it comes back
    assert HERS not in said(folder)
    assert place.forget(Subject(labelers=frozenset({HERS})))[0].sequence is None


def test_a_text_goes_from_what_was_kept_and_from_what_a_killed_writer_left(place: Place) -> None:
    folder = place.folder / "store" / "kept"
    half = folder / "parts" / ("f" * 64) / ".tmp-half"
    half.parent.mkdir(parents=True)
    half.write_text(TEXT)
    assert TEXT in said(folder)
    (report,) = place.forget(Subject(texts=frozenset({text_digest(TEXT)})))
    assert len(report.batches) == 1
    assert TEXT not in said(folder)
    assert not half.exists()
    run(place, place.folder / "again")
    assert TEXT not in said(folder)
