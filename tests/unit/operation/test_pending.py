"""Which labels wait for a run, with real batches and real claims."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rewardloop.config import ClaimSettings, Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claims import Claim, ClaimOutcome, Wanted, read_claims, take
from rewardloop.operation.pending import pending

KEY = b"a labeler key of the tests"
CONFIG, OTHER = "b" * 64, "c" * 64


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore.open(str(tmp_path / "store"))


def add(store: FeedbackStore, tmp_path: Path, name: str, labels: int) -> str:
    """Digest of a new batch of so many labels."""
    path = tmp_path / f"{name}.csv"
    path.write_text("id,text,labeler,score\n" + "".join(f"{n},{name} {n},w,{n % 5}\n" for n in range(labels)))
    settings = Settings.model_validate({"organization": "acme", "model": {"base": "random:tiny"}})
    digest = ingest([path], store, settings, key=KEY).digest
    assert digest is not None
    return digest


def train(store: FeedbackStore, config: str = CONFIG, *, finish: bool = True) -> None:
    """Claim the current corpus, and say that its run is over."""
    corpus = store.current_corpus()
    store.write_corpus(corpus)
    claim = take(store.storage, ClaimSettings(), Wanted(corpus.digest, config, "run", "a test"))
    assert isinstance(claim, Claim)
    if finish:
        claim.close(ClaimOutcome(status="not blessed", finished_at=datetime.now(UTC), report="", run_id="run"))


def waiting(store: FeedbackStore, config: str | None = CONFIG) -> tuple[list[str], int]:
    found = pending(store, read_claims(store.storage), store.current_corpus(), config=config)
    assert (found.oldest_at is None) == (not found.batches)
    return [batch.digest for batch in found.batches], found.labels


def test_what_no_finished_run_has_read(store: FeedbackStore, tmp_path: Path) -> None:
    assert waiting(store) == ([], 0)
    first, second = add(store, tmp_path, "first", 6), add(store, tmp_path, "second", 4)
    assert waiting(store) == ([first, second], 10)
    train(store)
    assert waiting(store) == ([], 0)
    third = add(store, tmp_path, "third", 3)
    assert waiting(store) == ([third], 3)
    found = pending(store, read_claims(store.storage), store.current_corpus(), config=CONFIG)
    assert found.oldest_at == store.batch(third).ingested_at
    train(store, finish=False)  # under way is not read
    assert waiting(store) == ([third], 3)


def test_another_configuration_has_read_nothing(store: FeedbackStore, tmp_path: Path) -> None:
    first = add(store, tmp_path, "first", 6)
    train(store, OTHER)
    assert waiting(store) == ([first], 6)
    assert waiting(store, OTHER) == ([], 0)
    assert waiting(store, None) == ([], 0)


def test_a_refused_batch_waits_once_it_is_accepted(store: FeedbackStore, tmp_path: Path) -> None:
    first, second = add(store, tmp_path, "first", 6), add(store, tmp_path, "second", 4)
    train(store)
    store.refuse(second, ["agreement too low"])  # that run left it out
    assert waiting(store) == ([], 0)
    store.accept(second, by="ann", reason="read them")
    assert waiting(store) == ([second], 4)
    train(store)
    assert waiting(store) == ([], 0)
    store.refuse(first, ["found later"])
    assert waiting(store) == ([], 0)


def test_a_corpus_that_was_changed(store: FeedbackStore, tmp_path: Path) -> None:
    add(store, tmp_path, "first", 6)
    train(store)
    (place,) = (tmp_path / "store" / "corpora").iterdir()
    add(store, tmp_path, "second", 4)
    place.unlink()
    with pytest.raises(BadInputError, match=r"the corpus of a finished run: corpus .* not in"):
        waiting(store)
