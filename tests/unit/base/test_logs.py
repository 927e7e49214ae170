"""Log lines: readable as text, one JSON object each in a container."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from rewardloop.errors import BadInputError
from rewardloop.logs import set_up_logging


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("KUBERNETES_SERVICE_HOST", "REWARDLOOP_RUN_DIR", "REWARDLOOP_LOG_FORMAT", "KFP_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    loggers = [logging.getLogger(), logging.getLogger("rewardloop")]
    before = [(list(one.handlers), one.level) for one in loggers]
    yield
    for one, (handlers, level) in zip(loggers, before, strict=True):
        one.handlers, one.level = handlers, level
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_carry_step_and_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARDLOOP_LOG_FORMAT", "json")
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", "/home/runs/20260131T120000-c0c0")
    assert set_up_logging(step="load_corpus")
    logging.getLogger("rewardloop.storage").warning("asked %d times\nnow", 3, extra={"fields": {"seconds": 1.5}})
    [line] = lines(capsys)
    assert str(line.pop("ts")).endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "rewardloop.storage",
        "message": "asked 3 times\nnow",
        "step": "load_corpus",
        "run_id": "20260131T120000-c0c0",
        "seconds": 1.5,
    }


def test_an_exception_and_a_librarys_warning_are_lines_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert set_up_logging()
    try:
        raise ZeroDivisionError("a defect")
    except ZeroDivisionError:
        logging.getLogger("somebody.else").exception("it went wrong")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    broken, warned = lines(capsys)
    assert "ZeroDivisionError: a defect" in str(broken["exception"])
    assert "step" not in broken
    assert "DeprecationWarning: old" in str(warned["message"])


def test_text_is_for_people_and_only_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert not set_up_logging()
    set_up_logging(step="again")  # a second call adds no second line
    logging.getLogger("rewardloop.claims").info("taken")
    logging.getLogger("somebody.else").info("noise")
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("Z info rewardloop.claims: taken")


def test_on_a_terminal_a_pod_speaks_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not set_up_logging()


def test_an_unknown_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARDLOOP_LOG_FORMAT", "xml")
    with pytest.raises(BadInputError, match="REWARDLOOP_LOG_FORMAT: found 'xml'; expected json or text"):
        set_up_logging()


@pytest.mark.parametrize("form", ["text", "json"])
def test_under_kfps_executor_a_line_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """It logs everything to stdout, in a form of its own."""
    monkeypatch.setenv("REWARDLOOP_LOG_FORMAT", form)
    theirs = logging.StreamHandler(sys.stdout)
    theirs.setFormatter(logging.Formatter("[KFP Executor]: %(message)s"))
    logging.getLogger().handlers = [theirs]
    logging.getLogger().setLevel(logging.INFO)
    set_up_logging(step="load_corpus")
    logging.getLogger("rewardloop.steps").info("load_corpus started")
    logging.getLogger().info("executor input")
    out, err = capsys.readouterr()
    assert (out + err).count("load_corpus started") == 1
    assert (out + err).count("executor input") == 1
    assert out == ("[KFP Executor]: executor input\n" if form == "text" else "")
