"""Windows of the corpus: which batches are in, what their labels weigh, and that equal stores agree."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import CorpusSettings, Settings, load_settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.store import FeedbackStore, corpus_digest
from rewardloop.feedback.store_files import Corpus, window_text
from rewardloop.snapshots import read_snapshot
from tests.unit.feedback.test_store import batch, manifest

NEWEST = datetime(2026, 6, 30, tzinfo=UTC)
SETTINGS = Settings.model_validate({"organization": "acme", "model": {"base": "random:tiny"}})


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore.open(str(tmp_path / "store"))


def put(store: FeedbackStore, name: str, *, days_old: float) -> str:
    frame = batch(name)
    about = manifest(frame, SETTINGS).model_copy(update={"ingested_at": NEWEST - timedelta(days=days_old)})
    assert store.write_batch(frame, about)
    return about.digest


def windowed(**settings: Any) -> CorpusSettings:
    return CorpusSettings.model_validate(settings)


def test_the_digest_of_all_is_what_it_was(store: FeedbackStore) -> None:
    put(store, "a", days_old=0)
    corpus = store.current_corpus()
    assert corpus == store.current_corpus(CorpusSettings())
    assert (corpus.window, corpus.digest) == ("all", corpus_digest(corpus.batches))


def test_last_days_count_from_the_newest_batch(store: FeedbackStore) -> None:
    old, edge, new = (put(store, name, days_old=days) for name, days in (("a", 30.5), ("b", 30), ("c", 0)))
    corpus = store.current_corpus(windowed(window="last_days", days=30))
    assert [one.digest for one in corpus.batches] == [edge, new]
    assert corpus.left_out == {old: "outside the window: last 30 days, counted from the newest batch"}
    assert corpus.window == "last 30 days"
    wider = store.current_corpus(windowed(window="last_days", days=31))
    assert len(wider.batches) == 3
    # The same batches under another policy are another corpus: what comes next would be chosen differently.
    assert len({corpus.digest, wider.digest, store.current_corpus().digest}) == 3
    assert set(store.batch_weights(corpus).values()) == {1.0}


def test_a_refused_batch_moves_no_window(store: FeedbackStore) -> None:
    kept, refused = put(store, "a", days_old=40), put(store, "b", days_old=0)
    store.refuse(refused, ["all ties"])
    corpus = store.current_corpus(windowed(window="last_days", days=30))
    assert [one.digest for one in corpus.batches] == [kept]
    assert corpus.left_out == {refused: "refused: all ties"}


def test_labels_weigh_half_after_each_half_life(store: FeedbackStore) -> None:
    digests = [put(store, name, days_old=days) for name, days in (("a", 120), ("b", 60), ("c", 30), ("d", 0))]
    corpus = store.current_corpus(windowed(window="decay", half_life_days=60))
    assert corpus.window == "decay 60 days"
    assert store.batch_weights(corpus) == pytest.approx(
        dict(zip(digests, [0.25, 0.5, 0.5**0.5, 1.0], strict=True)), abs=1e-12
    )
    store.write_corpus(corpus)
    assert store.read_corpus(corpus.digest) == corpus


def test_windows_in_words() -> None:
    assert window_text(windowed(window="last_days", days=0.5)) == "last 0.5 days"
    assert window_text(windowed(window="decay", half_life_days=1e-7)) == "decay 1e-07 days"
    assert Corpus(digest="d", window="decay 1e-07 days", batches=[]).half_life_days == 1e-7
    with pytest.raises(ValueError, match="window"):
        Corpus(digest="d", window="yesterday", batches=[])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["corpus.window=last_days"], "window 'last_days' needs days"),
        (["corpus.window=decay"], "window 'decay' needs half_life_days"),
        (["corpus.days=3"], "window 'all' does not take days; it belongs to window 'last_days'"),
        (["corpus.window=decay", "corpus.half_life_days=0"], "greater than 0"),
        (["corpus.window=some"], "corpus.window: found 'some'"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        load_settings(Path("conf/smoke.yaml"), overrides)


def test_the_window_is_part_of_what_a_model_is_trained_with() -> None:
    plain, other = (
        load_settings(Path("conf/smoke.yaml"), more).digest
        for more in ([], ["corpus.window=last_days", "corpus.days=3"])
    )
    assert plain != other


def test_weights_travel_with_the_records(store: FeedbackStore, tmp_path: Path) -> None:
    from rewardloop.steps.load_corpus import load_corpus
    from rewardloop.steps.validate_feedback import validate_feedback

    old, new = put(store, "a", days_old=60), put(store, "b", days_old=0)
    corpus = store.current_corpus(windowed(window="decay", half_life_days=60))
    store.write_corpus(corpus)
    loaded, validated = tmp_path / "corpus", tmp_path / "validated"
    load_corpus(store=store.storage.url, corpus_digest=corpus.digest, code_version="1", corpus=loaded)
    validate_feedback(
        corpus=loaded,
        store=store.storage.url,
        settings=json.dumps({"validation": {"min_labelers_per_batch": 1}, "preferences": {}}),
        code_version="1",
        validated=validated,
        data_docs=tmp_path / "docs",
    )
    for folder in (loaded, validated):
        records = read_snapshot(folder).scan().collect()
        assert dict(records.select("batch", "weight").unique().iter_rows()) == {old: 0.5, new: 1.0}
