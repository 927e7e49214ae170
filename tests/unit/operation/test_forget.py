"""Whoever is forgotten is in no file any more, is not taken again, and is named wherever something of him is left."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from rewardloop.config import ClaimSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import RunRecord
from rewardloop.feedback.forgotten import read_forgotten
from rewardloop.feedback.golden import generations
from rewardloop.feedback.golden_intake import add_golden
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.known_batches import known_batches
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claims import Claim, ClaimOutcome, Wanted, take
from rewardloop.operation.forget import Asked, Forgetter, Subject
from rewardloop.records import normalize_text, prompt_key
from rewardloop.tracking.connection import connect
from tests.forgetting import (
    HERS,
    KEY,
    TEXT,
    WHO,
    Dying,
    Killed,
    Place,
    dying,
    fill,
    held,
    row,
    settings_of,
    write_rows,
)  # fmt: skip
from tests.unit.tracking.versions import plant


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return connect(None, tmp_path_factory.mktemp("tracking"), 5)


@pytest.fixture
def place(tmp_path: Path, tracking_uri: str) -> Place:
    return fill(tmp_path, settings_of(tmp_path), tracking_uri)


def _labelers(store: FeedbackStore) -> set[str]:
    frames = [store.read_batch(batch.digest) for batch in store.batches()]
    return {label["labeler"] for frame in frames for labels in frame["labels"] for label in labels}


def test_a_labeler_goes_from_every_file_and_is_not_taken_again(place: Place) -> None:
    before = {batch.digest: batch for batch in place.store.batches()}
    assert held(place.folder / "store", HERS)
    (report,) = place.forget(Subject(labelers=frozenset({HERS})))

    assert held(place.folder / "store", HERS, WHO) == []
    assert (report.labels, report.groups, report.quarantined, report.decisions) == (15, 1, 1, 1)
    assert len(report.batches) == 2
    after = {batch.digest: batch for batch in place.store.batches()}
    assert set(report.batches.values()) <= set(after)
    assert set(report.batches).isdisjoint(after)
    assert len(after) == 3
    for old, new in report.batches.items():
        assert new is not None
        assert after[new].ingested_at == before[old].ingested_at
        assert after[new].labelers == 2
        assert f"{before[old].sources[0].name} " in " ".join(report.remaining)
    assert {batch.digest for batch in place.store.current_corpus().batches} == set(after)
    # The golden set and its uses go on, without her.
    assert generations(place.store.storage)[0].documents
    # The very files come again, and others that name her.
    assert place.ingest("again.jsonl", [row(number) for number in range(10)]) is None
    digest = place.ingest("more.jsonl", [row(number) for number in range(40, 44)])
    assert digest is not None
    assert place.store.batch(digest).labelers == 2
    assert digest in {batch.digest for batch in place.store.current_corpus().batches}
    assert HERS not in _labelers(place.store)
    skipped = ingest([write_rows(place.folder / "hers.jsonl", [row(50, (WHO,))])], place.store, place.settings, key=KEY)
    assert skipped.skipped == {"forgotten, so it is not taken again": 1}
    add_golden([write_rows(place.folder / "golden.jsonl", [row(60)])], place.store, place.settings, key=KEY)
    assert HERS not in _labelers(place.store)
    # Once more is nothing more.
    assert place.forget(Subject(labelers=frozenset({HERS})))[0].sequence is None


@pytest.mark.parametrize("form", ["as it is", "normalized"])
def test_a_text_takes_what_was_said_of_it_along(place: Place, form: str) -> None:
    text = TEXT if form == "as it is" else normalize_text(TEXT)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (report,) = place.forget(Subject(texts=frozenset({digest})))
    assert (report.groups, report.labels, report.decisions) == (0, 0, 1)
    assert held(place.folder / "store", TEXT, digest) == []
    frames = pl.concat([place.store.read_batch(batch.digest) for batch in place.store.batches()])
    group = frames.filter(group_id="g7").row(0, named=True)
    assert [one["response_id"] for one in group["responses"]] == ["a", "c"]
    assert all({one["response_id"] for one in label["values"]} == {"a", "c"} for label in group["labels"])


def test_a_prompt_takes_its_group_along(place: Place) -> None:
    (report,) = place.forget(Subject(texts=frozenset({prompt_key([("user", "Question 3?")])})))
    assert (report.groups, report.labels) == (1, 3)
    assert held(place.folder / "store", "Question 3?") == []


def test_a_batch_of_which_nothing_is_left_goes_and_the_first_one_stays_the_first(place: Place) -> None:
    everybody = frozenset(pseudonym(KEY, who) for who in (WHO, "bob", "cleo"))
    (report,) = place.forget(Subject(labelers=everybody))
    assert set(report.batches.values()) == {None}
    assert place.store.batches() == []
    assert generations(place.store.storage)[0].documents == frozenset()
    assert held(place.folder / "store", *everybody) == []
    rows = [row(number, ("dora", "emil")) for number in range(70, 74)]
    assert place.ingest("new.jsonl", rows) in {one.digest for one in place.store.current_corpus().batches}


def test_a_refused_batch_stays_refused(place: Place) -> None:
    old = place.store.batches()[1].digest
    place.store.refuse(old, ["too few labelers"])
    (report,) = place.forget(Subject(labelers=frozenset({HERS})))
    new = report.batches[old]
    assert new is not None
    assert place.store.refusal(new) == ["too few labelers"]
    assert new in place.store.current_corpus().left_out


def test_a_dry_run_changes_nothing_and_says_the_same(place: Place) -> None:
    before = place.bytes_of(place.folder)
    (would,) = place.forget(Subject(labelers=frozenset({HERS})), dry_run=True)
    assert place.bytes_of(place.folder) == before
    (did,) = place.forget(Subject(labelers=frozenset({HERS})))
    assert (would.labels, would.groups, would.quarantined, would.decisions) == (15, 1, 1, 1)
    assert (set(would.batches), would.places) == (set(did.batches), did.places)


def test_a_run_that_reads_it_is_refused_or_waited_for(place: Place) -> None:
    corpus = place.store.current_corpus()
    place.store.write_corpus(corpus)
    wanted = Wanted(corpus=corpus.digest, config="f1" * 32, run_id="run-1", reason="a test")
    claim = take(place.store.storage, ClaimSettings(), wanted)
    assert isinstance(claim, Claim)
    with pytest.raises(BadInputError, match=r"run run-1: is under way by process .*\(--wait\)"):
        place.forget(Subject(labelers=frozenset({HERS})))
    assert read_forgotten(place.store.storage).sequence == 0
    outcome = ClaimOutcome(status="blessed", finished_at=datetime.now(UTC), report="r", run_id="run-1", version="1")
    forgetter = place.forgetter()
    forgetter.sleep = lambda seconds: claim.close(outcome) and None
    asked = Asked(subject=Subject(labelers=frozenset({HERS})), by="me", reason="asked to", wait=True)
    assert forgetter.forget(asked)[0].labels == 15
    # The version of that run knows what is in the place of its batches.
    known = known_batches({"corpus_digest": corpus.digest}, place.settings.store.url)
    assert {batch.digest for batch in place.store.batches()} <= known
    with pytest.raises(BadInputError, match="something in it was forgotten"):
        place.store.read_batch(corpus.batches[0].digest)


def test_models_runs_and_copies_are_cleaned_or_named(place: Place) -> None:
    corpus = place.store.current_corpus()
    place.store.write_corpus(corpus)
    name = place.settings.model_name
    reward = plant(place.tracking_uri, name, corpus_digest=corpus.digest)
    plant(place.tracking_uri, name, corpus_digest="ee" * 32)
    policy = plant(place.tracking_uri, place.settings.policy_name, reward_model=f"models:/{name}/{reward}")
    home = Path(place.settings.home)
    run, outputs = home / "runs" / "run-1", home / "pipelines" / "retrain-1"
    record = RunRecord(
        run_id="run-1", organization="o", corpus_digest=corpus.digest, config_digest="f1" * 32,
        started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    files = {
        run / "run.json": record.model_dump_json(),
        run / "log.txt": f"labeler {HERS} and {TEXT}\n",
        run / "evidence" / "some.json": json.dumps({"labelers": [HERS], "example": TEXT[:40] + "…", "other": "kept"}),
        outputs / "load" / "evidence" / "corpus.json": corpus.model_dump_json(),
        home / "pipelines" / "retrain-2" / "load" / "evidence" / "corpus.json": json.dumps({"digest": "ab" * 32}),
        home / "pipelines" / ".kfp_cache" / "one.json": json.dumps({"uri": f"{outputs.resolve()}/load"}),
        home / "pipelines" / ".kfp_cache" / "two.json": json.dumps({"uri": "elsewhere"}),
        home / "work" / "train_reward_model" / "some" / "state.pt": "weights",
        home / "judge" / "answers" / "1.json": json.dumps({"text": f"It says: {TEXT} VERDICT: A"}),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    subject = Subject(labelers=frozenset({HERS}), texts=frozenset({hashlib.sha256(TEXT.encode()).hexdigest()}))
    (report,) = place.forget(subject)

    assert [line.split(": ")[0] for line in report.models] == [
        f"models:/{name}/{reward}",
        f"models:/{place.settings.policy_name}/{policy}",
    ]
    assert held(home, HERS, TEXT, TEXT[:40]) == []
    assert json.loads((run / "evidence" / "some.json").read_text())["other"] == "kept"
    assert not outputs.exists()
    assert (home / "pipelines" / "retrain-2").exists()
    assert [path.name for path in (home / "pipelines" / ".kfp_cache").iterdir()] == ["two.json"]
    assert not (home / "work" / "train_reward_model" / "some").exists()
    assert any("parity.json" in line for line in report.remaining)
    assert any("first.jsonl" in line for line in report.remaining)


def test_an_ingest_that_was_under_way_is_left_out_until_it_was_looked_at(place: Place) -> None:
    late = FeedbackStore.open(str(place.folder / "late"))
    ingest([write_rows(place.folder / "late.jsonl", [row(n) for n in range(80, 84)])], late, place.settings, key=KEY)
    (batch,) = late.batches()
    place.forget(Subject(labelers=frozenset({HERS})))
    place.store.write_batch(late.read_batch(batch.digest), batch)  # it had read the list before
    assert "rewardloop forget" in place.store.current_corpus().left_out[batch.digest]
    (report,) = place.forget(Subject())
    assert set(report.batches) == {batch.digest}
    assert place.store.current_corpus().left_out == {}
    assert HERS not in _labelers(place.store)


def test_another_process_at_work_on_it_is_not_disturbed(place: Place) -> None:
    subject = Subject(labelers=frozenset({HERS}))
    Dying.left = 1
    with pytest.raises(Killed):
        place.forget(subject, dying(place.settings.store.url))
    # The process that announced it is this one, and lives.
    with pytest.raises(BadInputError, match=r"process .* is at work on it since .* wait until it is done"):
        place.forget(Subject(texts=frozenset({"0" * 64})))
    reports = place.forget(Subject(texts=frozenset({"0" * 64})), take_over=True)
    assert [report.sequence for report in reports] == [1, 2]


def test_another_key_finds_nobody_and_is_refused(place: Place) -> None:
    with pytest.raises(BadInputError, match="the labeler key differs from the one of batch"):
        Forgetter(place.settings, place.store, b"another key of somebody", place.tracking_uri).forget(
            Asked(subject=Subject(labelers=frozenset({HERS})), by="me", reason="asked to")
        )
