"""A run that promoted its version and was then killed is judged against the champion before it, not against itself."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from rewardloop.tracking.own_promotion import champion_now, promotion_by_run


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A registry with versions 1 and 2, of the runs "first" and "second"."""
    uri = connect(None, tmp_path / "home", 5)
    client = MlflowClient(uri)
    client.create_registered_model("acme-reward")
    for run in ("first", "second"):
        client.create_model_version("acme-reward", str(tmp_path), tags={"rewardloop_run_id": run})
    return uri


def test_the_champion_before_the_runs_own(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARDLOOP_TRACKING_URI", uri)
    monkeypatch.setenv("REWARDLOOP_MLFLOW_RUN_ID", "abc")
    store = str(tmp_path / "store")
    history = History(Storage.open(store), "acme-reward")
    assert promotion_by_run(history, "second", uri) is None
    for version, before in (("1", None), ("2", "1")):
        history.append("promote", version, expected=before, why="Better.", threshold=None, compared_with=str(before))

    def now(run_id: str | None, compared_with: str | None) -> str | None:
        return champion_now(store, "acme", compared_with=compared_with, run_id=run_id)

    assert now("second", "1") == "1"  # it was compared with version 1, then became the champion
    assert now("first", None) is None
    assert now("third", "1") == "2"  # somebody else's version is the champion now
    assert now(None, "1") == "2"
    assert now("third", "2") == "2"
    # Later promotions and rollbacks change nothing about what the run was compared with.
    history.append("rollback", "1", expected="2", why="Doubts.", threshold=None, compared_with="2")
    assert now("second", "1") == "1"
    own = promotion_by_run(history, "second", uri)
    assert own is not None
    assert (own.sequence, own.previous) == (2, "1")
