"""Housekeeping removes what is old and nobody needs, and nothing else; a dry run removes nothing."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rewardloop.config import ClaimSettings, HousekeepingSettings, ModelSettings, Settings
from rewardloop.errors import BadInputError
from rewardloop.evidence import RunRecord
from rewardloop.kept import Kept, key_of
from rewardloop.operation import old_versions
from rewardloop.operation.claims import Claim, ClaimOutcome, Wanted, take
from rewardloop.operation.housekeeping import plan, remove
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from rewardloop.tracking.promotion import promote, rollback
from tests.unit.tracking.versions import plant

_START = datetime(2026, 1, 1, tzinfo=UTC)
_CONFIG = "f1" * 32


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return connect(None, tmp_path_factory.mktemp("tracking"), 5)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(old_versions, "_GRACE_SECONDS", 0.0)
    return Settings(
        organization=f"org-{abs(hash(tmp_path)):x}",
        home=str(tmp_path / "home"),
        model=ModelSettings(base="nobody/nothing"),
        housekeeping=HousekeepingSettings(keep_runs=2, keep_versions=2),
    )


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "store"))


def _write(path: Path, at: datetime, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for one in (path, path.parent):
        os.utime(one, (at.timestamp(), at.timestamp()))


def _run(settings: Settings, number: int) -> str:
    """A run of an hour on day ``number``, with an output, a cache entry and a checkpoint."""
    home, at, run_id = Path(settings.home), _START + timedelta(days=number), f"run-{number}"
    record = RunRecord(
        run_id=run_id,
        organization=settings.organization,
        corpus_digest=f"{number:064d}",
        config_digest=_CONFIG,
        started_at=at.isoformat(),
    )
    _write(home / "runs" / run_id / "run.json", at, record.model_dump_json())
    _write(home / "runs" / run_id / "report.html", at, "r" * 100)
    outputs = home / "pipelines" / f"retrain-{number}"
    _write(outputs / "model.bin", at + timedelta(minutes=5), "o" * 1000)
    entry = f'{{"model": {{"uri": "{outputs.resolve()}/model.bin"}}}}'
    _write(home / "pipelines" / ".kfp_cache" / f"key-{number}.json", at, entry)
    _write(home / "work" / "train_reward_model" / f"digest-{number}" / "state.pt", at + timedelta(minutes=5))
    return run_id


def _claim(storage: Storage, number: int, *, finish: bool) -> Claim:
    wanted = Wanted(corpus=f"{number:064d}", config=_CONFIG, run_id=f"run-{number}", reason="a test")
    claim = take(storage, ClaimSettings(), wanted)
    assert isinstance(claim, Claim)
    if finish:
        outcome = ClaimOutcome(status="blessed", finished_at=_START, report="r", run_id=wanted.run_id, version="1")
        assert claim.close(outcome)
    return claim


def _tree(*folders: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for one in folders for path in Path(one).rglob("*") if path.is_file()}


def _removed(settings: Settings, storage: Storage, tracking_uri: str) -> set[str]:
    before = _tree(settings.home, storage.url)
    wanted = plan(settings, storage, tracking_uri)
    assert _tree(settings.home, storage.url) == before  # looking changes nothing
    gone = {item.what for item in remove(wanted, settings, storage, tracking_uri)}
    assert gone == {item.what for item in wanted.items}
    after = _tree(settings.home, storage.url)
    assert {path: before[path] for path in after} == after
    assert all(path.startswith(settings.home) for path in before.keys() - after.keys())
    return gone


def test_old_runs_go_with_outputs_cache_entries_and_checkpoints(
    settings: Settings, storage: Storage, tracking_uri: str
) -> None:
    storage.write("batches/b1/manifest.json", b"{}")
    storage.write("quarantine/b1/rows.jsonl", b"{}")
    for number in range(4):
        _run(settings, number)
        _claim(storage, number, finish=True)
    wanted = plan(settings, storage, tracking_uri)
    assert sum(item.size for item in wanted.items if item.kind == "outputs") == 2000
    assert len(_removed(settings, storage, tracking_uri)) == 6
    home = Path(settings.home)
    for number in range(4):
        for place in (
            f"runs/run-{number}/run.json",
            f"pipelines/retrain-{number}/model.bin",
            f"pipelines/.kfp_cache/key-{number}.json",
            f"work/train_reward_model/digest-{number}/state.pt",
        ):
            assert (home / place).exists() == (number >= 2), place
    assert plan(settings, storage, tracking_uri).items == []


def test_kept_results_are_bounded_and_go_with_their_batches(
    settings: Settings, storage: Storage, tracking_uri: str
) -> None:
    storage.write("batches/b1/manifest.json", b"{}")
    kept = Kept(storage)
    for number, batches in enumerate((["b1"], ["b1"], ["b1", "gone"], ["b1"])):
        kept.keep("parts", key_of(number=number), {"rows.bin": bytes(1000)}, batches)
        entry = Path(storage.path(f"kept/parts/{key_of(number=number)}/entry.json"))
        os.utime(entry, (time.time() - 1000 + number,) * 2)
    assert [item.kept and item.kept.key for item in plan(settings, storage, tracking_uri).items] == [key_of(number=2)]
    tight = settings.model_copy(
        update={"housekeeping": settings.housekeeping.model_copy(update={"max_kept_bytes": 1500})}
    )
    wanted = plan(tight, storage, tracking_uri)
    assert [item.kind for item in wanted.items] == ["kept"] * 3
    assert all(item.size > 1000 for item in wanted.items)
    assert remove(wanted, tight, storage, tracking_uri) == wanted.items
    assert [one.key for one in kept.results()] == [key_of(number=3)]
    assert kept.read("parts", key_of(number=3)) is not None


def test_nothing_goes_while_a_run_is_open_and_an_unfinished_one_keeps_its_folder(
    settings: Settings, storage: Storage, tracking_uri: str
) -> None:
    for number in range(4):
        _run(settings, number)
    open_claim = _claim(storage, 0, finish=False)
    wanted = plan(settings, storage, tracking_uri)
    assert wanted.blocked is not None
    assert "run run-0 is under way by process" in wanted.blocked
    assert remove(wanted, settings, storage, tracking_uri) == []
    open_claim.beat(ended=True)
    gone = _removed(settings, storage, tracking_uri)
    assert (Path(settings.home) / "runs" / "run-0" / "run.json").exists()
    assert not (Path(settings.home) / "runs" / "run-1").exists()
    # What came after the unfinished run began may be its own.
    assert all(what.startswith("run ") for what in gone)


def test_what_killed_writers_left_goes_after_a_day(settings: Settings, storage: Storage, tracking_uri: str) -> None:
    storage.write("batches/b1/manifest.json", b"{}")
    old, new = (Path(storage.path(f"batches/b1/.tmp-{name}")) for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    wanted = plan(settings, storage, tracking_uri)
    assert [(item.kind, item.size) for item in wanted.items] == [("temporary", 4)]
    assert remove(wanted, settings, storage, tracking_uri) == wanted.items
    assert (old.exists(), new.exists(), storage.exists("batches/b1/manifest.json")) == (False, True, True)


def test_versions_that_somebody_needs_stay(
    settings: Settings, storage: Storage, tracking_uri: str, tmp_path: Path
) -> None:
    name, client = settings.model_name, MlflowClient(tracking_uri=tracking_uri)

    def made(number: int, **tags: str) -> str:
        folder = tmp_path / "artifacts" / str(number)
        _write(folder / "weights", _START, "w" * number)
        return plant(tracking_uri, name, source=folder.as_uri(), **tags)

    def chosen(version: str, force: str | None = None) -> None:
        promote(
            name,
            version,
            store=storage.url,
            tracking_uri=tracking_uri,
            who="ann",
            why="a test",
            compare=lambda candidate, champion: [],
            force=force,
        )

    for number in range(1, 10):
        made(number)
    chosen("1")
    chosen("3")
    chosen("5")  # the champion, after 3
    client.set_registered_model_alias(name, "shadow", "2")
    plant(tracking_uri, settings.policy_name, reward_model=f"models:/{name}/4")
    for version in ("6", "7"):
        client.set_model_version_tag(name, version, "blessed", "false")
    client.set_model_version_tag(name, "7", "rewardloop_run_id", "run-7")
    _claim(storage, 7, finish=False).beat(ended=True)

    # 2 has an alias, 3 is the previous champion, 4 a policy's, 5 the champion, 7 of an unfinished run, 8 and 9 newest.
    wanted = plan(settings, storage, tracking_uri)
    assert [(item.what, item.size) for item in wanted.items] == [(f"{name} version 1", 1), (f"{name} version 6", 6)]
    rollback(name, store=storage.url, tracking_uri=tracking_uri, who="ann", why="a test", to="1")
    assert [item.what for item in remove(wanted, settings, storage, tracking_uri)] == [f"{name} version 6"]
    assert not (tmp_path / "artifacts" / "6").exists()
    assert (tmp_path / "artifacts" / "1" / "weights").exists()
    assert "removing_since" not in client.get_model_version(name, "1").tags
    left = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
    assert left == [1, 2, 3, 4, 5, 7, 8, 9]


def test_a_version_that_is_being_removed_is_not_promoted(
    settings: Settings, storage: Storage, tracking_uri: str
) -> None:
    version = plant(tracking_uri, settings.model_name, removing_since="2026-01-01")
    with pytest.raises(BadInputError, match="is being removed by rewardloop gc"):
        promote(
            settings.model_name,
            version,
            store=storage.url,
            tracking_uri=tracking_uri,
            who="ann",
            why="a test",
            compare=lambda candidate, champion: [],
        )
    assert History(storage, settings.model_name).records() == []
