"""load_corpus: the batches of a corpus as one snapshot, with their evidence."""

from pathlib import Path

import polars as pl
import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import CorpusEvidence
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.snapshots import read_snapshot
from rewardloop.steps.load_corpus import load_corpus
from rewardloop.tables import FEEDBACK


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    settings = Settings.model_validate({"organization": "acme", "model": {"base": "random:tiny"}})
    store = FeedbackStore.open(str(tmp_path / "store"))
    for name, count in (("one", 4), ("two", 6)):
        path = tmp_path / f"{name}.csv"
        rows = "".join(f"{name} {number},anna,1\n{name} {number},ben,2\n" for number in range(count))
        path.write_text(f"text,labeler,score\n{rows}")
        ingest([path], store, settings, key=b"a labeler key of the tests")
    return store


def test_the_batches_of_the_corpus_and_no_others(store: FeedbackStore, tmp_path: Path) -> None:
    corpus = store.current_corpus()
    store.write_corpus(corpus)
    load_corpus(store=store.storage.url, corpus_digest=corpus.digest, code_version="1", corpus=tmp_path / "out")
    records = read_snapshot(tmp_path / "out").scan().collect()
    assert dict(records.schema) == {**FEEDBACK, "batch": pl.String()}
    one, two = store.batches()
    assert records["batch"].value_counts(sort=True).rows() == [(two.digest, 6), (one.digest, 4)]
    evidence = CorpusEvidence.model_validate_json((tmp_path / "out" / "evidence" / "corpus.json").read_bytes())
    assert (evidence.groups, evidence.labels) == (10, 20)
    assert [(line.source, line.groups, line.labels, line.labelers) for line in evidence.batches] == [
        ("one.csv", 4, 8, 2),
        ("two.csv", 6, 12, 2),
    ]


def test_a_refused_batch_is_left_out_with_its_reason(store: FeedbackStore, tmp_path: Path) -> None:
    one, two = store.batches()
    store.refuse(one.digest, ["all ties"])
    corpus = store.current_corpus()
    store.write_corpus(corpus)
    load_corpus(store=store.storage.url, corpus_digest=corpus.digest, code_version="1", corpus=tmp_path / "out")
    assert set(read_snapshot(tmp_path / "out").scan().collect()["batch"]) == {two.digest}
    evidence = CorpusEvidence.model_validate_json((tmp_path / "out" / "evidence" / "corpus.json").read_bytes())
    assert evidence.left_out == {one.digest: "refused: all ties"}


def test_a_corpus_without_batches_is_refused(store: FeedbackStore, tmp_path: Path) -> None:
    for batch in store.batches():
        store.refuse(batch.digest, ["all ties"])
    corpus = store.current_corpus()
    store.write_corpus(corpus)
    with pytest.raises(BadInputError, match=r"no batch to train on; ingest one, or accept a refused one:\n.*all ties"):
        load_corpus(store=store.storage.url, corpus_digest=corpus.digest, code_version="1", corpus=tmp_path / "out")


def test_an_unknown_corpus_is_refused(store: FeedbackStore, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="corpus 'ffffffffffff': not in"):
        load_corpus(store=store.storage.url, corpus_digest="f" * 64, code_version="1", corpus=tmp_path / "out")
