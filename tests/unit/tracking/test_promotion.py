"""Who becomes the champion, against whom, and what is kept of it; by many at once, too."""

import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rewardloop.errors import BadInputError, NotBlessedError
from rewardloop.evidence import Check
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History, HistoryRecord
from rewardloop.tracking.projection import project
from rewardloop.tracking.promotion import Compare, approve, promote, rollback
from rewardloop.tracking.quick_look import RegistryAwayError, tags_of
from tests.unit.tracking.versions import aliases, plant

_WHO = {"who": "ann", "why": "a test"}


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return connect(None, tmp_path_factory.mktemp("tracking"), 5)


@pytest.fixture
def name(tmp_path: Path) -> str:
    return f"org-{abs(hash(tmp_path)):x}-reward"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def _check(passed: bool) -> Check:
    reason = "not worse than champion on the golden set: -0.200 [-0.250, -0.150]; the lower end is not above -0.01."
    return Check(name="golden", passed=passed, value=None, limit=None, rule="", reason=reason)


def _never(candidate: str, champion: str) -> list[Check]:
    raise AssertionError(f"{candidate} was compared with {champion}")


def _fails(candidate: str, champion: str) -> list[Check]:
    return [_check(True), _check(False)]


@pytest.fixture
def make(name: str, store: str, tracking_uri: str) -> Callable[..., HistoryRecord]:
    def promoted(version: str, compare: Compare = _never, force: str | None = None, **say: str) -> HistoryRecord:
        said = _WHO | say
        return promote(name, version, store=store, tracking_uri=tracking_uri, compare=compare, force=force, **said)

    return promoted


def test_as_blessed_or_compared_again(
    name: str, store: str, tracking_uri: str, make: Callable[..., HistoryRecord]
) -> None:
    first = plant(tracking_uri, name)
    second = plant(tracking_uri, name, against=first, threshold="0.25")
    late = plant(tracking_uri, name, against=first)
    record = make(first)
    assert (record.version, record.previous, record.who, record.why) == ("1", None, "ann", "a test")
    record = make(second)
    assert (record.version, record.previous, record.threshold, record.compared_with) == ("2", "1", 0.25, "1")
    with pytest.raises(NotBlessedError, match=r"blessed against version 1, and compared with version 2.*-0\.200"):
        make(late, _fails)
    asked: list[tuple[str, str]] = []
    record = make(late, lambda candidate, champion: asked.append((candidate, champion)) or [_check(True)])
    assert asked == [("3", "2")]
    assert (record.previous, record.compared_with, record.forced) == ("2", "2", False)
    assert make(late) == record  # it is the champion already
    project(name, Storage.open(store), tracking_uri)
    assert aliases(tracking_uri, name) == {"champion": "3", "previous": "2"}


def test_an_unblessed_version_is_refused_or_marked_for_ever(
    name: str, store: str, tracking_uri: str, make: Callable[..., HistoryRecord]
) -> None:
    version = plant(tracking_uri, name, blessed=False)
    with pytest.raises(NotBlessedError, match=r"version 1: was not blessed.*--force REASON"):
        make(version)
    for empty in ("", "  "):
        with pytest.raises(BadInputError, match="--force: is empty"):
            make(version, force=empty)
    assert History(Storage.open(store), name).records() == []
    record = make(version, force="the judge is on holiday")
    assert (record.forced, record.why, record.compared_with) == (True, "the judge is on holiday", "nothing: forced")
    assert History(Storage.open(store), name).records() == [record]


def test_versions_that_cannot_be_promoted(name: str, tracking_uri: str, make: Callable[..., HistoryRecord]) -> None:
    plant(tracking_uri, name, manifest_digest="x")
    MlflowClient(tracking_uri=tracking_uri).delete_model_version_tag(name, "1", "manifest_digest")
    with pytest.raises(BadInputError, match="no tag manifest_digest: it was not registered by rewardloop"):
        make("1")
    for unknown in ("7", "champion", "-1"):
        with pytest.raises(BadInputError, match=f"there is no version '{unknown}'.*rewardloop status"):
            make(unknown)
    with pytest.raises(BadInputError, match="--reason: is empty"):
        make("1", why=" ")


def test_approval(name: str, store: str, tracking_uri: str, make: Callable[..., HistoryRecord]) -> None:
    def approved(version: str, by: str = "bob", reason: str = "read the samples") -> HistoryRecord:
        return approve(name, version, by=by, reason=reason, store=store, tracking_uri=tracking_uri, compare=_never)

    first, overtaken = plant(tracking_uri, name), plant(tracking_uri, name, against="1")
    record = approved(first)
    assert (record.who, record.why, record.action) == ("bob", "read the samples", "promote")
    assert approved(first) == record
    third = plant(tracking_uri, name, against="1")
    with pytest.raises(BadInputError, match="nobody's name"):
        approved(third, by=" ")
    with pytest.raises(BadInputError, match="--reason: is empty"):
        approved(third, reason="")
    approved(third)
    with pytest.raises(BadInputError, match=r"2: does not wait for approval: the champion is the newer version 3"):
        approved(overtaken)
    with pytest.raises(BadInputError, match=r"made the champion on .* by bob.*rollback --to 1"):
        approved(first)
    with pytest.raises(NotBlessedError, match="was not blessed"):
        approved(plant(tracking_uri, name, blessed=False))


def test_rollbacks_go_further_back_and_take_the_threshold_along(
    name: str, store: str, tracking_uri: str, make: Callable[..., HistoryRecord]
) -> None:
    def back(to: str | None = None, why: str = "it blocks everything") -> HistoryRecord:
        return rollback(name, store=store, tracking_uri=tracking_uri, who="ann", why=why, to=to)

    with pytest.raises(BadInputError, match="no champion yet"):
        back()
    for number in range(1, 5):
        make(plant(tracking_uri, name, against=str(number - 1) if number > 1 else "none", threshold=f"0.{number}"))
    with pytest.raises(BadInputError, match="--reason: is empty"):
        back(why="")
    with pytest.raises(BadInputError, match=r"version 9 never was the champion; those that were: 1, 2, 3, 4"):
        back("9")
    with pytest.raises(BadInputError, match="version 4 is the champion already"):
        back("4")
    record = back()
    assert (record.action, record.version, record.previous, record.threshold) == ("rollback", "3", "4", 0.3)
    assert back().version == "2"
    project(name, Storage.open(store), tracking_uri)
    assert aliases(tracking_uri, name) == {"champion": "2", "previous": "1"}
    assert back("4").version == "4"  # in the place of 2
    assert back().version == "1"
    with pytest.raises(BadInputError, match=r"version 1 has no previous champion.*rolled back from: 2, 3, 4"):
        back()
    project(name, Storage.open(store), tracking_uri)
    assert aliases(tracking_uri, name) == {"champion": "1"}
    MlflowClient(tracking_uri=tracking_uri).delete_model_version(name, "3")
    with pytest.raises(BadInputError, match="there is no version '3'"):
        back("3")


def test_a_policy_moves_with_its_reward_model_and_is_flagged_without(
    name: str, store: str, tracking_uri: str, make: Callable[..., HistoryRecord]
) -> None:
    policy = f"{name.removesuffix('-reward')}-policy"

    def promoted(version: str, model: str) -> HistoryRecord:
        return promote(model, version, store=store, tracking_uri=tracking_uri, compare=_never, **_WHO)

    make(plant(tracking_uri, name))
    second = plant(tracking_uri, name, against="1")
    aligned = plant(tracking_uri, policy, against="its reference", reward_model=f"models:/{name}/2")
    with pytest.raises(NotBlessedError, match=f"aligned to models:/{name}/2, but the champion of {name} is version 1"):
        promoted(aligned, policy)
    make(second)
    assert promoted(aligned, policy).compared_with == "its reference"

    def flag() -> str | None:
        return (
            MlflowClient(tracking_uri=tracking_uri)
            .get_model_version(policy, aligned)
            .tags.get("reward_model_rolled_back")
        )

    storage = Storage.open(store)
    assert project(name, storage, tracking_uri) == {}
    done = rollback(name, store=store, tracking_uri=tracking_uri, who="ann", why="worse", to=None)
    assert project(name, storage, tracking_uri) == {aligned: done.sequence}
    assert flag() == str(done.sequence)
    make(second)
    assert project(name, storage, tracking_uri) == {}
    assert flag() is None


def test_a_rollback_needs_neither_torch_nor_mlflow(
    name: str, store: str, tracking_uri: str, make: Callable[..., HistoryRecord]
) -> None:
    make(plant(tracking_uri, name))
    make(plant(tracking_uri, name, against="1"))
    code = (
        "import sys; from rewardloop.cli import main; from rewardloop.tracking.promotion import rollback\n"
        f"record = rollback({name!r}, store={store!r}, tracking_uri={tracking_uri!r}, who='ann', why='a test')\n"
        "print(record.version, sorted({'torch', 'mlflow', 'pandas', 'sqlalchemy', 'kfp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "1 []"


def test_a_rollback_does_not_wait_for_an_mlflow_that_is_away(
    name: str, store: str, tracking_uri: str, make: Callable[..., HistoryRecord]
) -> None:
    make(plant(tracking_uri, name, threshold="0.25"))
    make(plant(tracking_uri, name, against="1"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    away = f"http://127.0.0.1:{port}"
    record = rollback(name, store=store, tracking_uri=away, who="ann", why="worse")
    assert (record.version, record.threshold) == ("1", 0.25)
    assert record.compared_with == "nothing: a rollback, while MLflow did not answer"
    assert time.monotonic() - started < 20, "MLflow's own client would go on asking"
    # Who promotes needs what only the registry knows.
    with pytest.raises(RegistryAwayError, match="does not answer"):
        tags_of(name, "1", away, patient=False)
    project(name, Storage.open(store), tracking_uri)
    assert aliases(tracking_uri, name)["champion"] == "1"


def test_quick_look_says_what_the_client_says(name: str, tracking_uri: str) -> None:
    version = plant(tracking_uri, name, note="ä")
    client = MlflowClient(tracking_uri=tracking_uri)
    assert tags_of(name, version, tracking_uri) == client.get_model_version(name, version).tags
    client.delete_model_version(name, version)
    for unknown in (version, "77"):
        assert tags_of(name, unknown, tracking_uri) is None
    assert tags_of("nobody-reward", "1", tracking_uri) is None


def _insist(task: tuple[str, str, str, str]) -> str:
    """Promote a version that was blessed against nobody; the higher number is the better model."""
    name, version, store, tracking_uri = task

    def better(candidate: str, champion: str) -> list[Check]:
        return [_check(int(candidate) > int(champion))]

    try:
        promote(name, version, store=store, tracking_uri=tracking_uri, who="a process", why="a race", compare=better)
    except NotBlessedError:
        return "refused"
    History(Storage.open(store), name).project_aliases(MlflowClient(tracking_uri=tracking_uri))
    return "promoted"


@pytest.mark.parametrize("rounds", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_eight_processes_promote_at_once_and_the_best_stays(tmp_path: Path, tracking_uri: str, rounds: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.model_registry.sqlalchemy_store", "rewardloop.tracking.promotion"])
    name = f"race-{rounds}-reward"
    for _ in range(8):
        plant(tracking_uri, name)
    with context.Pool(8) as pool:
        for number in range(rounds):
            store = str(tmp_path / f"store-{number}")
            tasks = [(name, str(version), store, tracking_uri) for version in range(1, 9)]
            said = pool.map(_insist, tasks, chunksize=1)
            records = History(Storage.open(store), name).records()
            assert [record.previous for record in records] == [None, *(record.version for record in records[:-1])]
            assert [record.sequence for record in records] == list(range(1, len(records) + 1))
            assert len(records) == said.count("promoted")
            assert records[-1].version == "8"
            found = aliases(tracking_uri, name)
            assert (found["champion"], found.get("previous")) == ("8", records[-1].previous)
