"""``rewardloop trigger``: one look, the watch as a process of its own, and what is refused."""

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from standardwebhooks import Webhook

from rewardloop.cli import main as command
from rewardloop.cli import trigger as trigger_command
from rewardloop.cli.looking import Looker
from rewardloop.cli.parameters import config_digest
from rewardloop.cli.run_result import RunResult
from rewardloop.config import ClaimSettings, LoadedSettings, load_settings
from rewardloop.errors import BadInputError
from rewardloop.operation.claims import Claim, ClaimOutcome, Wanted, take
from rewardloop.operation.webhooks import Approval
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from tests.receiver import receiving
from tests.unit.tracking.versions import plant

SECRET = b"the signing secret of the tests"
LABELS = 6


def rows(name: str) -> str:
    return "id,text,labeler,score\n" + "".join(f"{n},{name} {n},w{n % 2},{n % 5}\n" for n in range(LABELS))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an inbox and a configuration; everything in it is relative to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    return tmp_path


def load(place: Path, **policy: Any) -> LoadedSettings:
    known = {"inbox": "inbox", "stable_seconds": 0, "poll_seconds": 0.2}
    settings = {
        "organization": "film-reviews",
        "model": {"base": "random:tiny"},
        "home": "home",
        "store": {"url": "store"},
        "trigger": known | policy,
    }
    path = place / "rewardloop.yaml"
    path.write_text(yaml.safe_dump(settings))
    return load_settings(path, [])


def drop(place: Path, name: str, text: str | None = None) -> None:
    """As programs that copy do: under another name first."""
    (place / f"{name}.part").write_text(rows(name) if text is None else text)
    (place / f"{name}.part").rename(place / "inbox" / name)


def rewardloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command, run in this process."""
    monkeypatch.setattr("sys.argv", ["rewardloop", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    return int(stopped.value.code or 0)


class Runs:
    """Stands for the training: claims as ``retrain`` does, and ends as it is told."""

    def __init__(self, place: Path, *kinds: str) -> None:
        self.place, self.kinds, self.reasons = place, list(kinds), list[str]()

    def __call__(self, loaded: LoadedSettings, *, reason: str) -> RunResult:
        self.reasons.append(reason)
        kind: Any = self.kinds.pop(0)
        looker = Looker(loaded, print)
        corpus = looker.store.current_corpus()
        looker.store.write_corpus(corpus)
        wanted = Wanted(corpus.digest, config_digest(loaded, {}), "run", reason)
        claim = take(looker.store.storage, ClaimSettings(), wanted)
        assert isinstance(claim, Claim)
        if kind != "failed":
            claim.close(ClaimOutcome(status=kind, finished_at=datetime.now(UTC), report="", run_id="run"))
        else:
            claim.beat(ended=True)
        return RunResult(kind, 1 if kind == "failed" else 0, "run")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give one of --once and --watch"),
        (["--once", "--watch"], "give one of --once and --watch"),
        (["--once", "--listen", "127.0.0.1:0"], "--listen needs --watch"),
        (["--watch", "--dry-run"], "--dry-run needs --once"),
        (["--watch", "--listen", "8090"], "--listen '8090': expected HOST:PORT, 127.0.0.1:8090 for example"),
        (["--watch", "--listen", "localhost:99999"], "--listen 'localhost:99999': expected HOST:PORT"),
        (["--watch", "--listen", "127.0.0.1:0"], "--listen: nobody may send anything; set REWARDLOOP_WEBHOOK_SECRETS"),
    ],
)
def test_what_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    load(place)
    assert rewardloop(monkeypatch, "trigger", *arguments) == 2
    assert why in capsys.readouterr().err


def test_nothing_is_due(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    load(place, min_new_labels=500)
    assert rewardloop(monkeypatch, "trigger", "--once") == 0
    assert capsys.readouterr().out == "Not due: no feedback in store yet\n"
    drop(place, "good.csv")
    drop(place, "bad.csv", "x,y\n1,2\n")
    assert rewardloop(monkeypatch, "trigger", "--once") == 0
    said = capsys.readouterr().out
    assert "inbox: good.csv: batch " in said
    assert "inbox: bad.csv: rejected: bad.csv: format not recognized" in said
    assert said.endswith("Not due: 6 of 500 new labels\n")
    assert len(list((place / "inbox" / "taken").iterdir())) == 1
    assert (place / "inbox" / "rejected" / "bad.csv.why.txt").is_file()


def test_a_dry_run_does_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(place)
    drop(place, "good.csv")
    before = sorted(place.rglob("*"))
    assert rewardloop(monkeypatch, "trigger", "--once", "--dry-run") == 0
    assert capsys.readouterr().out == (
        "inbox: good.csv: would be ingested\n"
        "No run would start, without what is in the inbox: no feedback in store yet\n"
    )
    assert sorted(place.rglob("*")) == before


def test_a_file_that_came_just_now(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(place, stable_seconds=0.3, min_new_labels=500)
    drop(place, "good.csv")
    assert rewardloop(monkeypatch, "trigger", "--once") == 0
    said = capsys.readouterr().out
    assert said.startswith("inbox: good.csv: came just now; waiting 0.3 s (trigger.stable_seconds)\n")
    assert said.endswith("Not due: 6 of 500 new labels\n")


def test_a_run_starts_once_and_says_why(place: Path) -> None:
    runs, said = Runs(place, "blessed", "not blessed"), list[str]()
    looker = Looker(load(place), said.append, runs)
    drop(place, "first.csv")
    looked = looker.look(["", "webhook 12ab"])
    assert looked.run is not None
    assert runs.reasons == ["6 new labels (trigger.min_new_labels: 1); webhook 12ab"]
    assert (looked.due.start, looked.again_at) == (False, None)
    assert looker.look().run is None
    assert said[-1] == "Not due: 0 of 1 new labels"
    drop(place, "second.csv")
    assert looker.look().run is not None
    assert len(runs.reasons) == 2


def test_a_corpus_that_fails_waits_longer_each_time(place: Path) -> None:
    runs, said, clock = Runs(place, "failed", "failed", "blessed"), list[str](), [100.0]
    looker = Looker(load(place, retry_failed_seconds=600), said.append, runs, lambda: clock[0])
    drop(place, "first.csv")
    for wait in (600, 1_200):
        before = datetime.now(UTC)
        looked = looker.look()
        assert looked.run is not None
        assert looked.again_at is not None
        assert wait <= (looked.again_at - before).total_seconds() < wait + 60
        clock[0] += wait - 1
        assert looker.look().run is None
        clock[0] += 1
    assert re.fullmatch(r"Not due: the run of this corpus failed 2 times; it is tried again at [\d:]+ UTC", said[-1])
    assert runs.reasons[1].startswith("run run of this corpus, begun ")
    clock[0] -= 1
    # New feedback makes another corpus, which has not failed.
    drop(place, "second.csv")
    assert looker.look().run is not None


def test_a_run_that_cannot_be_made_waits_too_and_is_told_once(place: Path, tmp_path: Path) -> None:
    """As where MLflow's credentials have expired: an exception instead of a result."""
    said, clock, starts = list[str](), [100.0], list[str]()

    def start(loaded: LoadedSettings, *, reason: str) -> RunResult:
        starts.append(reason)
        raise BadInputError("MLflow at http://mlflow: refuses these credentials")

    drop(place, "first.csv")
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWARDLOOP_NOTIFY_URLS", receiver.url)
        looker = Looker(load(place, retry_failed_seconds=600), said.append, start, lambda: clock[0])
        for wait in (600, 1_200):
            with pytest.raises(BadInputError, match="credentials"):
                looker.look()
            clock[0] += wait - 1
            assert looker.look().run is None
            clock[0] += 1
    assert len(starts) == 2
    [told] = receiver.got
    assert "the run cannot be made: MLflow at http://mlflow: refuses these credentials" in told["message"]


def test_another_labeler_key_is_not_the_files_fault(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(place, min_new_labels=500)
    drop(place, "first.csv")
    assert rewardloop(monkeypatch, "trigger", "--once") == 0
    monkeypatch.setenv("REWARDLOOP_LABELER_KEY", "another key altogether")
    drop(place, "second.csv")
    assert rewardloop(monkeypatch, "trigger", "--once") == 2
    assert "nothing can be taken: the labeler key differs from the one of batch" in capsys.readouterr().err
    assert (place / "inbox" / "second.csv").is_file()


@contextmanager
def watching(place: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
    """The command as a process, and a function that waits for a line of its log."""
    environment = os.environ | {"REWARDLOOP_WEBHOOK_SECRETS": "whsec_" + base64.b64encode(SECRET).decode()}
    with subprocess.Popen(
        [sys.executable, "-m", "rewardloop.cli.main", "trigger", "--watch", *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:

        def line(pattern: str) -> str:
            assert process.stderr is not None
            seen = []
            for text in process.stderr:
                seen.append(text)
                if found := re.search(pattern, text):
                    return found[1] if found.groups() else text
            raise AssertionError("".join(seen))

        try:
            yield process, line
        finally:
            process.kill()


def test_the_watch_from_its_first_line_to_sigterm(place: Path) -> None:
    load(place, min_new_labels=500)
    with watching(place, "--listen", "127.0.0.1:0") as (process, line):
        port = line(r"listening on 127.0.0.1:(\d+)")
        url = f"http://127.0.0.1:{port}/v1/webhooks/trigger"
        line(f"watching {place}/store/batches, {place}/store/accepted, {place}/inbox")
        line("Not due: no feedback in store yet")
        drop(place, "first.csv")
        line("inbox: first.csv: batch ")
        line("Not due: 6 of 500 new labels")
        headers = {"webhook-id": "1", "webhook-timestamp": str(int(time.time()))}
        headers["webhook-signature"] = Webhook(SECRET).sign("1", datetime.now(UTC), "{}")
        for status in (202, 401):
            assert requests.post(url, data="{}", headers=headers, timeout=10).status_code == status
        line("401: webhook-id: this request was sent before")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    # What was looked at is not looked at again.
    with watching(place) as (process, line):
        line("watching ")
        drop(place, "second.csv")
        line("inbox: second.csv: batch ")
        # Whatever a shell starts in the background ignores SIGINT, and so do its children.
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        process.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_an_approval_by_request(place: Path) -> None:
    loaded = load(place, inbox=None)
    plant(connect(None, (place / "home").resolve(), 5), "film-reviews-reward")
    wanted = Approval(version="1", name="Ann", reason="read forty answers")
    said = trigger_command._approved(loaded, wanted, "12ab")
    assert said.startswith("film-reviews-reward version 1 is the champion since ")
    looker = Looker(loaded, print)
    (record,) = History(looker.store.storage, "film-reviews-reward").records()
    assert (record.who, record.why) == ("Ann", "read forty answers (request 12ab)")
    with pytest.raises(BadInputError, match="there is no version '9'"):
        trigger_command._approved(loaded, wanted.model_copy(update={"version": "9"}), "12ab")
