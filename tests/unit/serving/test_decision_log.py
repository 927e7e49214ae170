"""Decisions in the store: sampled, pseudonymized, in whole files, and never at a request's cost."""

import time
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import DecisionLogSettings
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.records import normalize_text, prompt_key, text_digest
from rewardloop.serving.decision_log import Decided, DecisionLog
from rewardloop.storage import Storage

KEY = b"a key of sixteen and more"
PROMPT = [{"role": "user", "content": "How  was it?"}]
AT = 1_795_219_199.5  # 2026-11-20T23:59:59.5Z


def row(response: str = "Good. ", **changes: Any) -> Decided:
    known: dict[str, Any] = {
        "at": AT,
        "request_id": "r1",
        "model_version": "3",
        "segment": "films",
        "user": "ann@example.org",
        "prompt": PROMPT,
        "response": response,
        "score": 0.5,
        "decision": "accept",
        "threshold": 0.4,
    }
    return Decided(**(known | changes))


def log_in(folder: Path, counts: dict[str, int] | None = None, **settings: Any) -> DecisionLog:
    counts = {} if counts is None else counts

    def count(outcome: str, rows: int) -> None:
        counts[outcome] = counts.get(outcome, 0) + rows

    known: dict[str, Any] = {"sample": 1.0, "rows_per_file": 3, "seconds_per_file": 60}
    return DecisionLog(
        Storage.open(str(folder)), DecisionLogSettings.model_validate(known | settings), KEY, count=count
    )


def written(folder: Path) -> list[list[DecisionRecord]]:
    """Records per file, in the order of the files' names."""
    files = sorted(folder.glob("decisions/*/*.jsonl"))
    return [[DecisionRecord.model_validate_json(line) for line in path.read_text().splitlines()] for path in files]


def wait_for(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_record_says_everything_and_names_nobody(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.start()
    log.add([row()])
    log.close()
    [path] = tmp_path.glob("decisions/*/*.jsonl")
    assert path.parent.name == "2026-11-20"
    assert path.name.startswith("20261120T235959.500000Z-")
    assert "ann" not in path.read_text()
    assert "Good" not in path.read_text()
    [[record]] = written(tmp_path)
    assert record == DecisionRecord(
        at="2026-11-20T23:59:59.500+00:00",
        request_id="r1",
        model_version="3",
        segment="films",
        user=pseudonym(KEY, "ann@example.org"),
        prompt_hash=prompt_key([("user", "how was it?")]),
        response_hash=text_digest("good."),
        prompt_characters=12,
        response_characters=6,
        score=0.5,
        decision="accept",
        threshold=0.4,
    )


def test_texts_are_kept_only_on_request(tmp_path: Path) -> None:
    log = log_in(tmp_path, texts=True)
    log.start()
    log.add([row(user=None, score=None, decision=None, threshold=None)])
    log.close()
    [[record]] = written(tmp_path)
    assert (record.prompt, record.response, record.user, record.score) == (PROMPT, "Good. ", None, None)
    assert record.response_hash == text_digest(normalize_text("Good. "))


def test_files_are_written_when_full_and_at_the_end(tmp_path: Path) -> None:
    counts: dict[str, int] = {}
    log = log_in(tmp_path, counts)
    log.start()
    for number in range(7):
        log.add([row(str(number), at=AT + number)])
    wait_for(lambda: counts.get("written") == 6)
    log.close()
    assert [len(records) for records in written(tmp_path)] == [3, 3, 1]
    assert counts == {"written": 7}


def test_a_file_is_written_when_it_is_old(tmp_path: Path) -> None:
    log = log_in(tmp_path, seconds_per_file=0.2)
    log.start()
    log.add([row()])
    wait_for(lambda: written(tmp_path))
    log.close()
    assert len(written(tmp_path)) == 1


def test_the_sample_depends_on_the_request_alone(tmp_path: Path) -> None:
    half, tenth = log_in(tmp_path, sample=0.5), log_in(tmp_path, sample=0.1)
    ids = [f"request-{number}" for number in range(4_000)]
    chosen = {name for name in ids if half.wants(name)}
    assert 1_800 < len(chosen) < 2_200
    assert {name for name in ids if tenth.wants(name)} < chosen
    assert not any(log_in(tmp_path, sample=0.0).wants(name) for name in ids)


def test_a_store_that_is_away_loses_no_more_than_it_must(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts: dict[str, int] = {}
    (tmp_path / "decisions").write_text("in the way")
    log = log_in(tmp_path, counts, rows_per_file=1)
    log.start()
    for number in range(15):
        log.add([row(str(number))])  # returns at once, and raises nothing
    wait_for(lambda: "cannot be written yet" in caplog.text)
    assert 3 <= counts["dropped"] <= 5  # ten files' worth are kept, besides what the writer holds
    (tmp_path / "decisions").unlink()
    wait_for(lambda: counts.get("written", 0) + counts["dropped"] == 15)
    log.close()
    kept = [record.response_characters for records in written(tmp_path) for record in records]
    assert len(kept) == counts["written"]
    assert "rows were dropped" in caplog.text
