"""The data steps, again with another batch: the same files as from nothing, whatever was refused meanwhile."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback import verdicts
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.preferences import parts
from rewardloop.steps.build_preferences import build_preferences
from rewardloop.steps.load_corpus import load_corpus
from rewardloop.steps.validate_feedback import validate_feedback

KEY = b"a labeler key of the tests"
SETTINGS = Settings.model_validate(
    {
        "organization": "acme",
        "model": {"base": "random:tiny"},
        "validation": {"max_failed_share": 0.2, "max_response_characters": 100},
        "evaluation": {"bootstrap_samples": 100},
    }
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LARGE", 100)
    monkeypatch.setattr(parts, "_PART", 60)


def rows(first: int, count: int, *, long: int = 0, labelers: int = 3) -> list[dict[str, Any]]:
    """Rankings by a few of ten people; the first ``long`` have an answer that is too long."""
    return [
        {
            "group_id": f"g{number}",
            "prompt": [{"role": "user", "content": f"Question {number}?"}],
            "responses": [
                {"response_id": one, "content": f"Answer {one} to {number}." + "x" * 200 * (number < first + long)}
                for one in "abc"
            ],
            "labels": [
                {
                    "kind": "ranking",
                    "labeler": f"person {(number + who) % 10}",
                    "ranks": {"a": 1 + (number + who) % 4 // 3, "b": 2, "c": 3},
                }
                for who in range(labelers)
            ],
        }
        for number in range(first, first + count)
    ]


class Place:
    """A store, and the data steps on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url, self.runs = folder, str(folder / "store"), 0

    def ingest(self, name: str, content: list[dict[str, Any]]) -> str:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
        lenient = SETTINGS.validation.model_copy(update={"max_response_characters": 10**6})
        digest = ingest(
            [path], FeedbackStore.open(self.url), SETTINGS.model_copy(update={"validation": lenient}), key=KEY
        ).digest
        assert digest is not None
        return digest

    def run(self) -> dict[str, bytes]:
        """Tables and evidence of all three steps."""
        self.runs += 1
        here, store = self.folder / f"run-{self.runs}", FeedbackStore.open(self.url)
        corpus = store.current_corpus()
        store.write_corpus(corpus)
        load_corpus(store=self.url, corpus_digest=corpus.digest, code_version="1", corpus=here / "corpus")
        validate_feedback(
            corpus=here / "corpus",
            store=self.url,
            settings=SETTINGS.section("validation", "preferences"),
            code_version="1",
            validated=here / "validated",
            data_docs=here / "data_docs",
        )
        build_preferences(
            validated=here / "validated",
            store=self.url,
            settings=SETTINGS.section("preferences", "splits", "evaluation"),
            code_version="1",
            preferences=here / "preferences",
        )
        files = [here / "preferences" / "items.parquet", here / "preferences" / "pairs.parquet"]
        return {path.name: path.read_bytes() for path in [*files, *(here / "preferences" / "evidence").glob("*.json")]}

    def from_nothing(self, name: str) -> dict[str, bytes]:
        """The same on a copy of the store in which nothing is kept."""
        other = Place(self.folder.with_name(name))
        shutil.copytree(self.url, other.url)
        shutil.rmtree(Path(other.url) / "kept")
        return other.run()


def test_another_batch_gives_what_everything_gives_from_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    place.ingest("first.jsonl", rows(0, 150, long=5))
    place.run()
    place.ingest("second.jsonl", [*rows(1000, 15), *rows(20, 4, labelers=2)])
    assert place.run() == place.from_nothing("second")
    # Refused, and left out of the run that goes on; then taken in after all, with rows that came again meanwhile.
    refused = place.ingest("refused.jsonl", rows(2000, 10, long=6))
    with pytest.raises(BadInputError, match="is refused"):
        place.run()
    without = place.run()
    assert without == place.from_nothing("without")
    place.ingest("corrected.jsonl", [*rows(2006, 4), *rows(3000, 6)])
    assert place.run() == place.from_nothing("corrected")
    FeedbackStore.open(place.url).accept(refused, by="lead", reason="the rest is of use")
    accepted = place.run()
    assert accepted != without
    assert accepted == place.from_nothing("accepted")


def test_nothing_is_judged_or_built_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing is new")

    place = Place(tmp_path / "place")
    place.ingest("first.jsonl", rows(0, 150, long=5))
    first = place.run()
    monkeypatch.setattr(verdicts, "Validator", never)
    monkeypatch.setattr(parts, "build", never)
    assert place.run() == first
