"""The golden set over time: generations, their uses, and what `golden add` takes or refuses."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.comparisons import ANSWERS, keep_key, make_tasks
from rewardloop.feedback.golden import documents_in_use, generations, golden_uses, use_golden
from rewardloop.feedback.golden_intake import GOLDEN_ALREADY, NOT_RANDOM, SEEN, SHARES_TEXT, add_golden
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.store_files import GoldenGeneration
from rewardloop.feedback.task_keys import keep_task_key
from rewardloop.labeling.items import Item
from rewardloop.labeling.tasks import make_tasks as labeling_tasks
from rewardloop.preferences.splits import place_rows
from rewardloop.records import Message, Response


def prompted(path: Path, name: str, count: int, **more: Any) -> Path:
    """Pairs in the canonical format; prompts begin with ``name``."""
    groups = [
        {
            "group_id": f"{name}{number}",
            "prompt": [{"role": "user", "content": f"{name} question {number}"}],
            "responses": [{"response_id": "a", "content": "yes"}, {"response_id": "b", "content": "no"}],
            "labels": [{"kind": "choice", "labeler": "anna", "chosen": "a", "rejected": "b"}],
            **more,
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(group) + "\n" for group in groups))
    return path


@pytest.fixture
def founded(store: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes) -> FeedbackStore:
    """40 prompts, of which 10 are golden."""
    ingest([prompted(tmp_path / "first.jsonl", "first", 40)], store, settings, key=key)
    return store


def batches(store: FeedbackStore) -> int:
    return len(store.batches())


# Adding ---------------------------------------------------------------------------------------------------------------
def test_new_groups_are_golden_and_come_in_a_batch(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    before = founded.golden_documents()
    path = prompted(tmp_path / "fresh.jsonl", "fresh", 12)
    report = add_golden([path], founded, settings, key=key)
    assert (report.taken, report.documents, report.refused) == (12, 12, {})
    assert report.digest is not None
    batch = founded.read_batch(report.digest)
    assert founded.golden_documents() == before | set(batch["document"])
    assert report.digest in {inside.digest for inside in founded.current_corpus().batches}
    # Where preferences are built, all of them are golden: none is trained on.
    placed = place_rows(batch, settings.splits, frozenset(founded.golden_documents()))
    assert set(placed["split"]) == {"golden"}
    assert placed["why"].null_count() == 12
    assert "12 groups of 12 documents taken" in report.summary


def finished(path: Path, tasks: list[dict[str, Any]]) -> Path:
    """Tasks as Label Studio exports them, the left answer always preferred."""
    chosen = {"type": "pairwise", "from_name": "comparison", "to_name": "comparison", "value": {"selected": "left"}}
    path.write_text(json.dumps([task | {"annotations": [{"completed_by": 2, "result": [chosen]}]} for task in tasks]))
    return path


def test_finished_tasks_are_read_with_the_keys_of_the_store(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    items = [
        Item(
            id=f"i{n}",
            prompt=(Message(role="user", content=f"new question {n}"),),
            responses=tuple(Response(response_id=one, content=f"{one} of {n}", model=f"model {one}") for one in "ab"),
            segment=None,
            sampling="random",
        )
        for n in range(4)
    ]
    made = labeling_tasks(items, [], kind="pairwise", settings=settings.labeling, criterion="overall")
    keep_task_key(founded.storage, made.key)
    report = add_golden([finished(tmp_path / "tasks.json", made.of_annotator[""])], founded, settings, key=key)
    assert (report.taken, report.refused) == (4, {})
    assert report.digest is not None
    models = founded.read_batch(report.digest)["responses"].explode().struct.field("model")
    assert set(models) == {"model a", "model b"}

    answers = pl.DataFrame(
        [{"prompt": [{"role": "user", "content": "another"}], "reference": "no", "policy": "yes"}], schema=ANSWERS
    )
    tasks, comparison = make_tasks(answers, count=1, seed=0, policy="9f" * 32, run_id="run-1")
    keep_key(founded.storage, comparison)
    report = add_golden([finished(tmp_path / "comparison.json", tasks)], founded, settings, key=key)
    assert report.refused == {NOT_RANDOM: 1}


def test_the_same_file_twice_adds_nothing(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    path = prompted(tmp_path / "fresh.jsonl", "fresh", 12)
    add_golden([path], founded, settings, key=key)
    again = add_golden([path], founded, settings, key=key)
    assert (again.digest, again.taken, again.refused) == (None, 0, {GOLDEN_ALREADY: 12})
    assert len(generations(founded.storage)) == 2
    assert batches(founded) == 2


def test_what_may_have_been_trained_on_is_refused(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    golden = founded.golden_documents()
    path = prompted(tmp_path / "mixed.jsonl", "first", 45)  # 40 of them were ingested, 10 of these are golden
    report = add_golden([path], founded, settings, key=key)
    assert report.taken == 5
    assert report.refused == {SEEN: 30, GOLDEN_ALREADY: 10}
    assert any("may have been trained on" in reason for reason in report.reasons)
    assert len(founded.golden_documents()) == len(golden) + 5
    about = founded.batch(report.digest or "")
    assert about.rows_in == about.rows_taken + about.rows_quarantined + about.rows_duplicate + sum(
        about.skipped.values()
    )
    # The refused groups are no lost feedback: like any other, they may be ingested.
    prompted(path, "first", 45, segment="nurses")
    assert ingest([path], founded, settings, key=key).groups == 45


def test_only_a_random_sample_can_be_golden(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    path = prompted(tmp_path / "hard.jsonl", "hard", 6, sampling="active")
    report = add_golden([path], founded, settings, key=key)
    assert (report.digest, report.refused) == (None, {NOT_RANDOM: 6})
    assert batches(founded) == 1


def test_a_text_without_prompt_is_known_by_itself(
    store: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    def texts(name: str, document: str, *words: str) -> Path:
        path = tmp_path / name
        rows = [
            {
                "group_id": f"{document}{number}",
                "document_id": f"{document}{number}",
                "responses": [{"response_id": "a", "content": word}],
                "labels": [{"kind": "rating", "labeler": "anna", "scores": {"a": number}}],
            }
            for number, word in enumerate(words)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    ingest([texts("first.jsonl", "d", *(f"text {number}" for number in range(20)))], store, settings, key=key)
    # Another document, but a text that was there, in other letters.
    report = add_golden([texts("fresh.jsonl", "e", "TEXT  3", "a new text")], store, settings, key=key)
    assert (report.taken, report.refused) == (1, {SHARES_TEXT: 1})


def test_the_first_batch_comes_first(store: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes) -> None:
    with pytest.raises(BadInputError, match=r"no batch yet.*rewardloop ingest"):
        add_golden([prompted(tmp_path / "a.jsonl", "a", 5)], store, settings, key=key)
    assert not (tmp_path / "store").exists()


def test_another_labeler_key_is_refused(founded: FeedbackStore, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="labeler key differs"):
        add_golden([prompted(tmp_path / "a.jsonl", "a", 5)], founded, settings, key=b"another key of the tests")
    assert len(generations(founded.storage)) == 1


def test_unusable_rows_are_quarantined_beside_the_new_batch(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    path = prompted(tmp_path / "fresh.jsonl", "fresh", 30)
    path.write_text(path.read_text() + '{"group_id": "bad", "responses": []}\n')
    report = add_golden([path], founded, settings, key=key)
    assert (report.taken, report.rows_quarantined) == (30, 1)
    (row,) = founded.storage.read(f"quarantine/{report.digest}/rows.jsonl").splitlines()
    assert json.loads(row)["place"].endswith(":31")


def test_after_a_crash_before_the_batch_the_documents_are_golden_and_the_file_can_come_again(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prompted(tmp_path / "fresh.jsonl", "fresh", 12)
    written = FeedbackStore.write_batch

    def crash(self: FeedbackStore, frame: pl.DataFrame, manifest: Any) -> bool:
        if self.storage.url == founded.storage.url:
            raise KeyboardInterrupt
        return written(self, frame, manifest)

    with monkeypatch.context() as patch:
        patch.setattr(FeedbackStore, "write_batch", crash)
        with pytest.raises(KeyboardInterrupt):
            add_golden([path], founded, settings, key=key)
    assert len(founded.golden_documents()) == 22
    assert [one.in_use for one in generations(founded.storage)] == [True, False]  # nothing to compare on yet
    assert add_golden([path], founded, settings, key=key).taken == 12
    assert [one.in_use for one in generations(founded.storage)] == [False, True]
    assert len(founded.golden_documents()) == 22


def test_a_refused_golden_batch_may_come_again_corrected(
    founded: FeedbackStore, settings: Settings, tmp_path: Path, key: bytes
) -> None:
    path = prompted(tmp_path / "fresh.jsonl", "fresh", 12)
    digest = add_golden([path], founded, settings, key=key).digest
    assert digest is not None
    founded.refuse(digest, ["too few labelers"])
    assert [one.in_use for one in generations(founded.storage)] == [True, False]
    with pytest.raises(BadInputError, match="which validation refused: too few labelers"):
        add_golden([path], founded, settings, key=key)
    prompted(path, "fresh", 12, segment="corrected")
    assert add_golden([path], founded, settings, key=key).taken == 12
    everything = founded.golden_documents()
    # The same documents are in two generations now, and count in the second.
    assert [len(one.documents) for one in generations(founded.storage, everything)] == [10, 0, 12]


# Uses -----------------------------------------------------------------------------------------------------------------
def test_a_candidate_is_one_use_however_often_it_is_judged(founded: FeedbackStore) -> None:
    storage = founded.storage
    assert golden_uses(storage) == 0
    assert [use_golden(storage, name) for name in ("c1", "c2", "c1", "c3", "c2")] == [1, 2, 1, 3, 2]
    assert golden_uses(storage) == 3


def generation(store: FeedbackStore, name: str, count: int, second: int, batch: str) -> set[str]:
    documents = [f"{name}{number}" for number in range(count)]
    added = datetime(2030, 1, 1, 0, 0, second, tzinfo=UTC)
    assert store.add_golden_generation(GoldenGeneration(batch=batch, documents=documents, added_at=added))
    return set(documents)


def test_the_newest_generations_judge_once_they_are_as_many_as_the_first(founded: FeedbackStore) -> None:
    storage, first = founded.storage, founded.golden_documents()
    assert [use_golden(storage, f"c{number}") for number in range(3)] == [1, 2, 3]
    few = generation(founded, "few", 4, 1, "b1")
    everything = first | few
    # 4 fresh documents among 10 worn ones: as worn as before.
    assert documents_in_use(storage, everything) == everything
    assert use_golden(storage, "c3", everything) == 4
    more = generation(founded, "more", 6, 2, "b2")
    everything |= more
    # 6 + 4 are as many as the first 10, which retire: one candidate was judged by the 4.
    assert documents_in_use(storage, everything) == few | more
    assert golden_uses(storage, everything) == 1
    assert use_golden(storage, "c4", everything) == 2
    alone = generation(founded, "alone", 10, 3, "b3")
    everything |= alone
    assert documents_in_use(storage, everything) == alone
    assert use_golden(storage, "c5", everything) == 1
    assert [one.uses for one in generations(storage, everything)] == [4, 2, 1, 1]


def test_only_what_a_run_can_compare_on_counts(founded: FeedbackStore) -> None:
    first = founded.golden_documents()
    fresh = generation(founded, "fresh", 10, 1, "b1")
    assert documents_in_use(founded.storage, first | fresh) == fresh
    # A run whose corpus is older than the fresh generation is judged by the first, not by nothing.
    assert documents_in_use(founded.storage, first) == first
    assert documents_in_use(founded.storage, set()) == set()


def test_an_empty_store_has_no_golden_set(store: FeedbackStore) -> None:
    assert generations(store.storage) == []
    assert golden_uses(store.storage) == 0


def test_candidates_judged_at_once_get_numbers_of_their_own(founded: FeedbackStore) -> None:
    start = threading.Barrier(9)

    def judge(number: int) -> int:
        start.wait()
        return use_golden(founded.storage, f"c{number}")

    with ThreadPoolExecutor(9) as pool:
        numbers = list(pool.map(judge, range(9)))
    assert sorted(numbers) == list(range(1, 10))


def test_a_damaged_use_is_named(founded: FeedbackStore) -> None:
    use_golden(founded.storage, "c1")
    (folder,) = founded.storage.list("golden-uses")
    founded.storage.write(f"golden-uses/{folder}/00000001.json", b"{}")
    with pytest.raises(BadInputError, match="is not a use of the golden set"):
        golden_uses(founded.storage)
