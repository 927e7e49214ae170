"""What ``rewardloop status``, ``history``, ``rollback``, ``promote`` and ``gc`` say and do, on a real store."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from rewardloop.cli.main import app
from rewardloop.config import ClaimSettings, Settings
from rewardloop.errors import BadInputError, NotBlessedError
from rewardloop.evidence import RunRecord
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claims import Claim, Wanted, take
from rewardloop.operation.status import status
from rewardloop.operation.status_report import StatusReport
from rewardloop.operation.status_table import table
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from tests.unit.tracking.versions import aliases, plant


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return connect(None, tmp_path_factory.mktemp("tracking"), 5)


@pytest.fixture
def config(tmp_path: Path, tracking_uri: str) -> Path:
    settings = {
        "organization": f"org-{abs(hash(tmp_path)):x}",
        "home": str(tmp_path / "home"),
        "store": {"url": str(tmp_path / "store")},
        "tracking": {"uri": tracking_uri},
        "model": {"base": "random:tiny"},
        "trigger": {"min_new_labels": 5},
    }
    path = tmp_path / "rewardloop.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.model_validate(yaml.safe_load(config.read_text()))


def _call(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "-c", str(config)])


def _said(config: Path, *arguments: str) -> str:
    done = _call(config, *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def _refused(config: Path, *arguments: str) -> str:
    done = _call(config, *arguments)
    assert isinstance(done.exception, BadInputError | NotBlessedError), (done.output, done.exception)
    return str(done.exception)


@contextmanager
def _a_loop_at_work(settings: Settings, tmp_path: Path, tracking_uri: str) -> Iterator[FeedbackStore]:
    """Six new labels, one run under way, one failed, three versions of which the last waits."""
    store = FeedbackStore.open(settings.store.url)
    path = tmp_path / "batch.csv"
    path.write_text("id,text,labeler,score\n" + "".join(f"{n},text {n},w,{n % 5}\n" for n in range(6)))
    ingest([path], store, settings, key=b"a labeler key of the tests")
    corpus = store.current_corpus()
    store.write_corpus(corpus)
    claim = take(store.storage, ClaimSettings(), Wanted(corpus.digest, "f1" * 32, "run-2", "6 new labels"))
    assert isinstance(claim, Claim)
    for number, word in ((1, "failed"), (2, "running")):
        record = RunRecord(
            run_id=f"run-{number}",
            organization=settings.organization,
            corpus_digest=corpus.digest,
            config_digest="f1" * 32,
            trigger_reason="6 new labels",
            started_at=f"2026-01-0{number}T00:00:00+00:00",
            status=word,
        )
        folder = Path(settings.home) / "runs" / record.run_id
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(record.model_dump_json())
    name = settings.model_name
    for number, against in ((1, "none"), (2, "1"), (3, "2")):
        plant(tracking_uri, name, against=against, threshold=f"0.{number}", accuracy="0.875")
    plant(tracking_uri, settings.policy_name, against="its reference", reward_model=f"models:/{name}/2")
    yield store


def test_the_whole_story_on_the_command_line(
    settings: Settings, config: Path, tmp_path: Path, tracking_uri: str
) -> None:
    name, policy = settings.model_name, settings.policy_name
    assert "nothing was promoted yet" in _said(config, "history")
    with _a_loop_at_work(settings, tmp_path, tracking_uri):
        assert f"{name} version 1 is the champion, the first; threshold +0.100" in _said(config, "promote", "1")
        assert "version 2 is the champion, after version 1" in _said(
            config, "approve", "2", "--by", "bob", "--reason", "read the samples"
        )
        _said(config, "promote", "1", "--policy")
        shown = _said(config, "status")
    assert "New labels      6 in 1 batches" in shown
    assert "(a run starts at 5)" in shown
    assert f"{name} version 2, threshold +0.200; before it 1; promote" in shown
    assert "by bob: read the samples" in shown
    assert f"Approval        {name} version 3 waits: rewardloop approve 3 --reason WHY" in shown
    assert "Next start      2" in shown
    assert "run-2  running  process" in shown
    assert "run-1  failed" in shown
    assert f"{name}  2  threshold +0.200  accuracy 0.875  champion" in shown

    said = _said(config, "rollback", "--reason", "it blocks everything", "--by", "ann")
    assert f"{name} version 1 is the champion, after version 2; threshold +0.100" in said
    assert "rollback by ann: it blocks everything" in said
    until = time.monotonic() + 120
    while aliases(tracking_uri, name).get("champion") != "1":  # a process of its own sees to that
        assert time.monotonic() < until
        time.sleep(0.2)
    assert "version 1 has no previous champion to go back to" in _refused(config, "rollback", "--reason", "more")
    report = StatusReport.model_validate_json(_said(config, "status", "--json"))
    flagged = {one.version: one.reward_model_rolled_back for one in report.versions if one.model == policy}
    sequence = History(FeedbackStore.open(settings.store.url).storage, name).records()[-1].sequence
    assert flagged == {"1": sequence}
    assert "Flagged" in table(report)
    assert [(one.model, one.version, one.previous) for one in report.champions] == [
        (name, "1", None),
        (policy, "1", None),
    ]

    shown = _said(config, "history")
    assert "bob: read the samples [rolled back by 4]" in shown
    records = json.loads(_said(config, "history", "--json"))
    assert [(one["previous"], one["version"], one["who"] in {"bob", "ann"}) for one in records][1:] == [
        ("1", "2", True),
        ("2", "1", True),
    ]
    assert [one["threshold"] for one in records] == [0.1, 0.2, 0.1]
    assert "Nothing is removed: run run-2 is under way" in _said(config, "gc", "--dry-run")


def test_what_is_refused(settings: Settings, config: Path, tracking_uri: str) -> None:
    plant(tracking_uri, settings.model_name, blessed=False)
    assert "there is no version '7'" in _refused(config, "promote", "7")
    assert "was not blessed" in _refused(config, "promote", "1")
    assert "--force: is empty" in _refused(config, "promote", "1", "--force", "")
    assert "no champion yet" in _refused(config, "rollback", "--reason", "worse")
    assert _call(config, "rollback").exit_code == 2  # no reason
    assert "promote, FORCED by" in _said(config, "promote", "1", "--force", "the judge is ill")
    assert "the judge is ill [FORCED]" in _said(config, "history")
    assert "forced" in _said(config, "status")


def test_a_registry_that_does_not_answer_hides_nothing_else(settings: Settings, tmp_path: Path) -> None:
    store = FeedbackStore.open(settings.store.url)
    report = status(settings, store, None, None)
    assert (report.versions, report.champions, report.pending.labels) == ([], [], 0)
    (tmp_path / "home" / "runs" / "bad").mkdir(parents=True)
    (tmp_path / "home" / "runs" / "bad" / "run.json").write_text("{")
    report = status(settings, store, None, None)
    assert len(report.problems) == 1
    assert "Warning: " in table(report)


def test_drift_is_that_of_the_champion(settings: Settings, config: Path, tracking_uri: str) -> None:
    """An unreadable report is a problem where it is read."""
    plant(tracking_uri, settings.model_name)
    _said(config, "promote", "1")
    store = FeedbackStore.open(settings.store.url)
    store.storage.write("drift/2/20270101T000000.000000Z.json", b"{}")
    assert status(settings, store, None, None).problems == []
    store.storage.write("drift/1/20260101T000000.000000Z.json", b"{}")
    assert "is not a drift report" in status(settings, store, None, None).problems[0]


def test_the_next_start_follows_the_schedule(settings: Settings) -> None:
    store = FeedbackStore.open(settings.store.url)
    report = status(settings, store, None, None)
    assert report.next_start is not None
    assert report.next_start - datetime.now(UTC) < timedelta(days=1)
    assert (report.next_start.hour, report.next_start.minute, report.next_start.second) == (3, 0, 0)
    off = settings.model_copy(update={"schedule": settings.schedule.model_copy(update={"enabled": False})})
    assert status(off, store, None, None).next_start is None


def test_aliases_are_repaired_by_looking(settings: Settings, config: Path, tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri=tracking_uri)
    for _ in range(2):
        plant(tracking_uri, settings.model_name)
    _said(config, "promote", "1")
    client.set_registered_model_alias(settings.model_name, "champion", "2")
    _said(config, "status")
    assert aliases(tracking_uri, settings.model_name) == {"champion": "1"}
