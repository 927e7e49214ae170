"""What a wish to train is answered where no run is started."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rewardloop.cli.parameters import config_digest
from rewardloop.cli.retraining import close_cut_short, retrain
from rewardloop.cli.run_result import RunResult
from rewardloop.config import ClaimSettings, LoadedSettings, load_settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import RunRecord
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claims import Claim, ClaimOutcome, Wanted, read_claims, take
from rewardloop.storage import Storage
from tests.run_folders import refused_run
from tests.smoke_data import write_ratings


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSettings:
    # A busy machine may take minutes between two lines of a test; nobody is silent meanwhile.
    lease = "claims.lease_seconds=86400"
    places = [f"home={tmp_path}/home", f"store.url={tmp_path}/store", "align=", lease]
    return load_settings(Path("conf/smoke.yaml").resolve(), places)


def _claimed(loaded: LoadedSettings, tmp_path: Path) -> Claim:
    """The claim of another process to the current corpus."""
    store = FeedbackStore.open(loaded.settings.store.url)
    ingest([write_ratings(tmp_path / "a.csv", texts=40, seed=1)], store, loaded.settings, key=b"k" * 32)
    wanted = Wanted(store.current_corpus().digest, config_digest(loaded, {}), "their-run", "37 new labels")
    claim = take(store.storage, ClaimSettings(), wanted)
    assert isinstance(claim, Claim)
    assert claim.beat()
    return claim


def test_a_run_of_another_process_is_named_and_not_started_twice(loaded: LoadedSettings, tmp_path: Path) -> None:
    claim = _claimed(loaded, tmp_path)
    said: list[str] = []
    before = dict(os.environ)
    for again in (None, "a doubt"):
        done = retrain(loaded, reason="a test", again=again, say=said.append)
        assert done == RunResult("claimed elsewhere", 0, "their-run")
    assert said[0].startswith(
        "Claimed elsewhere: run their-run of this corpus with these settings is under way by process"
    )
    assert f"since {claim.started_at.isoformat(timespec='seconds')}, its last heartbeat was at" in said[0]
    assert os.environ == before
    assert not (tmp_path / "home" / "runs").exists()


def test_a_finished_corpus_is_not_trained_again(loaded: LoadedSettings, tmp_path: Path) -> None:
    claim = _claimed(loaded, tmp_path)
    at = datetime(2026, 11, 21, 12, tzinfo=UTC)
    claim.close(ClaimOutcome(status="not blessed", finished_at=at, report="/theirs/report.html", run_id="their-run"))
    said: list[str] = []
    done = retrain(loaded, reason="a test", say=said.append)
    assert done == RunResult("nothing new", 0, "their-run", Path("/theirs/report.html"))
    assert said[0].startswith("Nothing new: the 1 batch(es) in ")
    assert "on 2026-11-21T12:00:00+00:00 (not blessed)" in said[0]
    assert "rewardloop run --again REASON" in said[0]


@pytest.mark.parametrize("owner", ["lives", "is gone"])
def test_the_report_of_a_run_that_was_killed_after_its_outcome(tmp_path: Path, owner: str) -> None:
    """Whose process lives is writing it: two at once would take each other's files away."""
    storage, run_dir = Storage.open(str(tmp_path / "store")), refused_run(tmp_path / "runs" / "theirs")
    place = run_dir / "run.json"
    record = RunRecord.model_validate_json(place.read_bytes())
    record = record.model_copy(update={"status": "not blessed", "mlflow_run_id": None, "closed": False})
    place.write_text(record.model_dump_json())
    claim = take(storage, ClaimSettings(), Wanted("c0" * 32, "f1" * 32, "theirs", "a test"))
    assert isinstance(claim, Claim)
    at = datetime(2026, 11, 21, 12, tzinfo=UTC)
    claim.close(ClaimOutcome(status="not blessed", finished_at=at, report="/theirs/report.html", run_id="theirs"))
    (state,) = read_claims(storage)
    if owner == "is gone":
        dead = state.owner.model_copy(update={"started": "before this process"})
        state = state.model_copy(update={"owner": dead})
    close_cut_short(tmp_path, [state])
    assert (run_dir / "report.html").is_file() == (owner == "is gone")
    assert RunRecord.model_validate_json(place.read_bytes()).closed == (owner == "is gone")


def test_nothing_to_train_on(loaded: LoadedSettings) -> None:
    with pytest.raises(BadInputError, match="no feedback to train on; start with: rewardloop ingest FILE"):
        retrain(loaded, reason="a test")


def test_again_wants_a_reason(loaded: LoadedSettings) -> None:
    with pytest.raises(BadInputError, match="--again: the reason is empty"):
        retrain(loaded, reason="a test", again=" ")
