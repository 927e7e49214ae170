"""The store: whole batches or none, what is set aside, decisions, corpora; also when writing fails or many write."""

import errno
import multiprocessing
import os
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import Settings, SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.set_aside import choose_golden_documents
from rewardloop.feedback.store import BatchManifest, FeedbackStore, SourceFile, batch_digest
from rewardloop.records import FeedbackGroup, Rating, Response, Sampling
from rewardloop.storage import Storage
from rewardloop.tables import feedback_frame


def batch(name: str, count: int = 8, *, sampling: Sampling = "random") -> pl.DataFrame:
    groups = (
        FeedbackGroup(
            group_id=f"{name}{number}",
            responses=(Response(response_id="a", content=f"{name} {number}"),),
            labels=(Rating(labeler="l_1", scores={"a": number}),),
            sampling=sampling,
        )
        for number in range(count)
    )
    return feedback_frame((f"{name}.csv:{number}", group) for number, group in enumerate(groups))


def manifest(frame: pl.DataFrame, settings: Settings, *, second: int = 0) -> BatchManifest:
    return BatchManifest(
        digest=batch_digest(frame["record"].to_list()),
        ingested_at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC),
        rewardloop="0",
        sources=[SourceFile(name="x.csv", sha256="0" * 64)],
        importer="canonical",
        importer_reason="named",
        rows_in=frame.height,
        rows_taken=frame.height,
        rows_quarantined=0,
        rows_duplicate=0,
        groups=frame.height,
        labels=frame.height,
        labelers=1,
        splits=settings.splits,
    )


def put(store: FeedbackStore, settings: Settings, name: str, *, second: int = 0, **more: Any) -> str:
    frame = batch(name, **more)
    about = manifest(frame, settings, second=second)
    assert store.write_batch(frame, about)
    return about.digest


def test_a_batch_comes_back_as_it_was(store: FeedbackStore, settings: Settings) -> None:
    frame = batch("a")
    about = manifest(frame, settings)
    assert store.write_batch(frame, about)
    assert not store.write_batch(frame, about)
    assert store.read_batch(about.digest).equals(frame)
    assert store.batches() == [about]
    assert store.record_hashes() == set(frame["record"])


def test_batches_are_listed_oldest_first(store: FeedbackStore, settings: Settings) -> None:
    digests = [put(store, settings, name, second=second) for name, second in (("c", 3), ("a", 1), ("b", 2))]
    assert [one.digest for one in store.batches()] == [digests[1], digests[2], digests[0]]


def test_a_folder_without_manifest_is_no_batch(store: FeedbackStore, settings: Settings) -> None:
    frame = batch("a")
    about = manifest(frame, settings)
    store.storage.write(f"batches/{about.digest}/records.parquet", b"half")
    assert store.batches() == []
    with pytest.raises(BadInputError, match="no such batch"):
        store.read_batch(about.digest)
    assert store.write_batch(frame, about)
    assert store.read_batch(about.digest).equals(frame)


def test_changed_records_are_noticed(store: FeedbackStore, settings: Settings, tmp_path: Path) -> None:
    digest = put(store, settings, "a")
    batch("b").write_parquet(tmp_path / "store" / "batches" / digest / "records.parquet")
    with pytest.raises(BadInputError, match=r"records.parquet: was changed after ingest"):
        store.read_batch(digest)
    (tmp_path / "store" / "batches" / digest / "records.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInputError, match=r"records.parquet: cannot be read"):
        store.read_batch(digest)


def test_a_batch_is_found_by_the_beginning_of_its_digest(store: FeedbackStore, settings: Settings) -> None:
    digest = put(store, settings, "a")
    assert store.batch(digest[:8]).digest == digest
    with pytest.raises(BadInputError, match=f"no such batch.*{digest[:12]}"):
        store.batch("zzz")
    with pytest.raises(BadInputError, match="no such batch"):
        store.batch("")


def test_the_quarantine_is_private(store: FeedbackStore, tmp_path: Path) -> None:
    store.quarantine("d" * 64, "rows", [{"place": "a.csv:1", "row": {"text": "ü"}}])
    path = tmp_path / "store" / "quarantine" / ("d" * 64) / "rows.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == '{"place": "a.csv:1", "row": {"text": "\\u00fc"}}\n'


def test_a_store_need_not_be_local(settings: Settings, tmp_path: Path, key: bytes) -> None:
    store = FeedbackStore.open(f"memory://{tmp_path}")
    path = ratings(tmp_path / "one.csv", "one", 40)
    assert ingest([path], store, settings, key=key).rows_taken == 40
    assert ingest([path], store, settings, key=key).digest is None
    whole = FeedbackStore.open(str(tmp_path / "whole"))
    ingest([path], whole, settings, key=key)
    assert state(store) == state(whole)


# Set aside ------------------------------------------------------------------------------------------------------------
def test_golden_documents_and_anchors_come_from_the_first_batch_and_stay(
    store: FeedbackStore, settings: Settings
) -> None:
    assert store.golden_documents() == set()
    assert store.anchors().is_empty()
    assert store.splits() is None
    frame = batch("a", 20)
    first = put(store, settings, "a", count=20)
    golden = store.golden_documents()
    assert len(golden) == 5  # 0.25 of 20
    assert golden <= set(frame["document"])
    anchors = store.anchors()
    assert anchors.columns == ["prompt", "response"]
    assert anchors.height == 3
    texts = {row["responses"][0]["content"] for row in frame.iter_rows(named=True) if row["document"] in golden}
    assert set(anchors["response"]) <= texts
    put(store, settings, "b", count=40, second=1)
    assert store.golden_documents() == golden
    assert store.anchors().equals(anchors)
    assert store.splits() == settings.splits
    assert f'"first_batch": "{first}"' in store.storage.read("splits.json").decode()


def test_only_what_was_sampled_at_random_is_golden() -> None:
    mixed = pl.concat([batch("a", 8), batch("b", 8, sampling="active")])
    splits = SplitSettings(golden=0.49)
    golden = choose_golden_documents(mixed, splits)
    assert len(golden) == 4  # 0.49 of 8, rounded up
    assert set(golden) <= set(batch("a", 8)["document"])
    assert choose_golden_documents(mixed.reverse(), splits) == golden
    assert choose_golden_documents(mixed, SplitSettings(golden=0.49, salt="other")) != golden
    assert choose_golden_documents(mixed, SplitSettings(golden=0.0)) == []


# Decisions and corpora ------------------------------------------------------------------------------------------------
def test_a_refused_batch_is_left_out_until_it_is_accepted(store: FeedbackStore, settings: Settings) -> None:
    first, second = put(store, settings, "a"), put(store, settings, "b", second=1)
    both = store.current_corpus()
    assert [one.digest for one in both.batches] == [first, second]
    store.refuse(second, ["alpha = 0.1; expected at least 0.3", "all ties"])
    assert store.refusal(second) == ["alpha = 0.1; expected at least 0.3", "all ties"]
    one = store.current_corpus()
    assert [entry.digest for entry in one.batches] == [first]
    assert one.left_out == {second: "refused: alpha = 0.1; expected at least 0.3; all ties"}
    store.accept(second, by="lead", reason="checked by hand")
    store.accept(second, by="somebody else", reason="later")
    accepted = store.current_corpus()
    assert store.accepted_by(second) == "lead"
    assert [entry.accepted_by for entry in accepted.batches] == [None, "lead"]
    assert accepted.left_out == {}
    assert len({both.digest, one.digest, accepted.digest}) == 3
    with pytest.raises(BadInputError, match="is not refused"):
        store.accept(first, by="lead", reason="")


def test_a_corpus_is_kept_and_checked(store: FeedbackStore, settings: Settings) -> None:
    put(store, settings, "a")
    corpus = store.current_corpus()
    with pytest.raises(BadInputError, match="not in"):
        store.read_corpus(corpus.digest)
    store.write_corpus(corpus)
    assert store.read_corpus(corpus.digest) == corpus
    put(store, settings, "b", second=1)
    other = store.current_corpus()
    assert other.digest != corpus.digest
    store.storage.write(f"corpora/{other.digest}.json", corpus.model_dump_json().encode())
    with pytest.raises(BadInputError, match="was changed"):
        store.read_corpus(other.digest)


def test_a_file_of_another_version_is_named(store: FeedbackStore, settings: Settings) -> None:
    digest = put(store, settings, "a")
    store.storage.write(f"batches/{digest}/manifest.json", b'{"format": 2}')
    with pytest.raises(BadInputError, match=r"manifest.json: is not a BatchManifest of this version"):
        store.batches()


# Crashes --------------------------------------------------------------------------------------------------------------
class CrashError(Exception):
    """The machine went away."""


@dataclass(frozen=True)
class CrashingStorage(Storage):
    """Storage that does its first ``countdown[0]`` writes and then goes away."""

    countdown: list[int] = field(default_factory=list)

    def write(self, name: str, data: bytes, *, mode: int | None = None) -> None:
        self._count()
        super().write(name, data, mode=mode)

    def create(self, name: str, data: bytes, *, mode: int | None = None) -> bool:
        self._count()
        return super().create(name, data, mode=mode)

    def _count(self) -> None:
        if not self.countdown[0]:
            raise CrashError
        self.countdown[0] -= 1


def crashing(url: str, writes: int) -> FeedbackStore:
    storage = Storage.open(url)
    return FeedbackStore(CrashingStorage(storage.url, storage.fs, storage.root, [writes]))


def ratings(path: Path, name: str, count: int) -> Path:
    bad = f"{name}-bad,text,anna,nan\n"
    rows = "".join(f"{name}{number},{name} text {number},anna,{number % 5}\n" for number in range(count))
    path.write_text(f"id,text,labeler,score\n{rows}{bad}")
    return path


def state(store: FeedbackStore) -> tuple[list[str], set[str], list[str], SplitSettings | None]:
    digests = [one.digest for one in store.batches()]
    return digests, store.golden_documents(), store.anchors()["response"].to_list(), store.splits()


WRITES = 7  # quarantine, records, manifest, splits, golden records, golden documents, anchors
COMMIT = 3


def test_seven_writes_make_a_first_ingest(tmp_path: Path, settings: Settings, key: bytes) -> None:
    path = ratings(tmp_path / "one.csv", "one", 40)
    store = crashing(str(tmp_path / "store"), WRITES)
    ingest([path], store, settings, key=key)
    assert store.storage.countdown == [0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("writes", range(WRITES))
def test_after_a_crash_the_same_file_ends_in_the_same_store(
    writes: int, tmp_path: Path, settings: Settings, key: bytes
) -> None:
    path = ratings(tmp_path / "one.csv", "one", 40)
    whole = FeedbackStore.open(str(tmp_path / "whole"))
    ingest([path], whole, settings, key=key)
    url = str(tmp_path / "store")
    with pytest.raises(CrashError):
        ingest([path], crashing(url, writes), settings, key=key)
    store = FeedbackStore.open(url)
    assert len(store.batches()) == (writes >= COMMIT)  # the whole batch or none
    report = ingest([path], store, settings, key=key)
    assert (report.digest is None) == (writes >= COMMIT)
    assert state(store) == state(whole)
    assert len(store.golden_documents()) == 10


@pytest.mark.parametrize("writes", range(WRITES))
def test_after_a_crash_another_file_is_bound_to_what_was_committed_only(
    writes: int, tmp_path: Path, settings: Settings, key: bytes
) -> None:
    one, two = ratings(tmp_path / "one.csv", "one", 40), ratings(tmp_path / "two.csv", "two", 40)
    url = str(tmp_path / "store")
    with pytest.raises(CrashError):
        ingest([one], crashing(url, writes), settings, key=key)
    other = settings.model_copy(update={"splits": settings.splits.model_copy(update={"salt": "other"})})
    store = FeedbackStore.open(url)
    if writes < COMMIT:  # nothing of the first try counts, its split settings included
        ingest([two], store, other, key=key)
        expected = FeedbackStore.open(str(tmp_path / "whole"))
        ingest([two], expected, other, key=key)
        assert state(store) == state(expected)
    else:  # the first batch is committed, and its settings with it
        with pytest.raises(BadInputError, match=r"splits.salt: the store has 'rewardloop'"):
            ingest([two], store, other, key=key)
        ingest([two], store, settings, key=key)
        expected = FeedbackStore.open(str(tmp_path / "whole"))
        ingest([one], expected, settings, key=key)
        assert state(store)[1:] == state(expected)[1:]
        assert len(store.batches()) == 2


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_crash_in_a_later_ingest_changes_nothing(writes: int, tmp_path: Path, settings: Settings, key: bytes) -> None:
    one, two = ratings(tmp_path / "one.csv", "one", 40), ratings(tmp_path / "two.csv", "two", 40)
    url = str(tmp_path / "store")
    store = FeedbackStore.open(url)
    ingest([one], store, settings, key=key)
    before = state(store)
    with pytest.raises(CrashError):
        ingest([two], crashing(url, writes), settings, key=key)
    assert state(store) == before
    assert ingest([two], store, settings, key=key).rows_taken == 40


def test_a_store_that_cannot_be_written_is_an_error_for_people(tmp_path: Path, settings: Settings, key: bytes) -> None:
    blocked = tmp_path / "store"
    blocked.write_text("a file where the store should be")
    with pytest.raises(BadInputError, match=r"store/splits.json: cannot be read: Not a directory; check store.url"):
        ingest([ratings(tmp_path / "one.csv", "one", 40)], FeedbackStore.open(str(blocked)), settings, key=key)


# Many at once ---------------------------------------------------------------------------------------------------------
def _ingest_alone(arguments: tuple[str, str, dict[str, Any]]) -> tuple[str | None, int]:
    path, url, tree = arguments
    report = ingest(
        [Path(path)], FeedbackStore.open(url), Settings.model_validate(tree), key=b"a labeler key of the tests"
    )
    return report.digest, report.rows_taken


def _in_parallel(arguments: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[str | None, int]]:
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        return pool.map(_ingest_alone, arguments, chunksize=1)


def test_eight_processes_with_eight_first_files_make_one_founding_set(tmp_path: Path, settings: Settings) -> None:
    url, tree = str(tmp_path / "store"), settings.model_dump(mode="json")
    paths = [ratings(tmp_path / f"{name}.csv", name, 40) for name in "abcdefgh"]
    results = _in_parallel([(str(path), url, tree) for path in paths])
    store = FeedbackStore.open(url)
    assert {one.digest for one in store.batches()} == {digest for digest, _ in results}
    assert len(store.batches()) == 8
    splits = store.storage.read("splits.json").decode()
    (founder,) = (one.digest for one in store.batches() if f'"first_batch": "{one.digest}"' in splits)
    golden = store.golden_documents()
    assert golden == set(choose_golden_documents(store.read_batch(founder), settings.splits))
    assert len(golden) == 10
    assert set(pl.read_parquet(tmp_path / "store" / "golden" / "records.parquet")["document"]) == golden


def test_eight_processes_with_the_same_file_make_one_batch(tmp_path: Path, settings: Settings) -> None:
    url, tree = str(tmp_path / "store"), settings.model_dump(mode="json")
    path = ratings(tmp_path / "one.csv", "one", 40)
    results = _in_parallel([(str(path), url, tree)] * 8)
    (only,) = FeedbackStore.open(url).batches()
    assert {digest for digest, _ in results} <= {only.digest, None}
    assert sum(digest is not None for digest, _ in results) == 1


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, settings: Settings, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path, store = ratings(tmp_path / "one.csv", "one", 40), FeedbackStore.open(str(tmp_path / "store"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(BadInputError, match=r"cannot be written: No space left on device; free space"):
            ingest([path], store, settings, key=key)
    assert [one for one in (tmp_path / "store").rglob("*") if one.is_file()] == []
    assert ingest([path], store, settings, key=key).rows_taken == 40
