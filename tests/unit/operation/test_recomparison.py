"""The comparison with the champion of this moment is the gate's own, on real versions and a real store."""

import json
from pathlib import Path

import pytest

from rewardloop.config import Settings, ValidationSettings
from rewardloop.errors import BadInputError, NotBlessedError
from rewardloop.feedback.golden import golden_uses
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.recomparison import compare_versions, comparison
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from rewardloop.tracking.promotion import promote
from tests.registered import Candidate, bless, make_candidate, write
from tests.smoke_data import write_ratings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "organization": "smoke",
            "home": str(tmp_path / "home"),
            "store": {"url": str(tmp_path / "store")},
            "splits": {"salt": "smoke", "train": 0.4, "calibration": 0.2, "test": 0.3, "golden": 0.2, "anchors": 8},
            "preferences": {"group_size": 4, "acceptable_rating": 0.0},
            "model": {"base": "random:tiny", "max_length": 128},
            "evaluation": {"bootstrap_samples": 100, "min_rating_gap": 1.0},
        }
    )


def test_an_equal_version_passes_and_another_fails(
    settings: Settings, tiny_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, uri = FeedbackStore.open(settings.store.url), connect(None, tmp_path / "home", 5)
    ingest([write_ratings(tmp_path / "batch.csv", texts=150, seed=3)], store, settings, key=b"a labeler key of tests")
    corpus = store.current_corpus()
    store.write_corpus(corpus)
    for number, seed in enumerate((0, 0, 1)):
        made = make_candidate(tmp_path / str(number), tiny_base, uri, seed=seed)
        candidate = Candidate(made.folder, uri, organization="smoke")
        scoring = made.folder / "evaluation" / "scoring.json"
        write(scoring, json.loads(scoring.read_text()) | {"threshold": 0.4 + number / 10})
        bless(candidate, champion="no champion: first version", corpus_digest=corpus.digest)
        candidate.register(mode="approval", corpus=corpus.digest, store=settings.store.url)
    url = settings.store.url

    # A run is at work in this process, and batches as small as this one are no longer let in.
    at_work = tmp_path / "run"
    at_work.mkdir()
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(at_work))
    settings = settings.model_copy(update={"validation": ValidationSettings(min_groups_per_batch=10_000)})
    # Version 1 and 2 have the same weights.
    checks = compare_versions(settings, url, uri, candidate="2", champion="1")
    assert [check.name for check in checks] == [
        "compared with today's champion",
        "not worse than champion 1 on test",
        "not worse than champion 1 on the golden set",
    ]
    assert [(check.value, check.limit) for check in checks[1:]] == [(0.0, -0.01), (0.0, -0.01)]
    assert all(check.passed for check in checks)
    assert golden_uses(store.storage) == 1
    compare_versions(settings, url, uri, candidate="2", champion="1")
    assert golden_uses(store.storage) == 1  # the same look
    assert list(at_work.iterdir()) == []
    assert store.current_corpus() == corpus, "a comparison refused a batch"
    assert store.storage.list("quarantine") == []

    def promoted(version: str) -> None:
        compare = comparison(settings, url, uri)
        promote("smoke-reward", version, store=url, tracking_uri=uri, who="ann", why="a test", compare=compare)

    promoted("1")
    with pytest.raises(NotBlessedError, match=r"blessed against no champion, and compared with version 1.*golden set"):
        promoted("3")  # too few documents to find another model not worse
    assert golden_uses(store.storage) == 2
    assert [record.version for record in History(store.storage, "smoke-reward").records()] == ["1"]
    elsewhere = str(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match="corpus"):
        compare_versions(settings, elsewhere, uri, candidate="2", champion="1")
