"""The fuzz run: every format takes part, its files are the same every time, and a few hundred of them do no harm."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.bad_input.attempt import attempt, made
from benchmarks.bad_input.campaign import run
from benchmarks.bad_input.seeds import seeds
from rewardloop.feedback.importers.base import importers

FILES = 120


def test_every_golden_file_of_every_format_is_a_seed_in_every_wrapping() -> None:
    found = seeds()
    kinds = {"text", "gzip", "zstd", "zip", "parquet", "arrow-file", "arrow-stream", "parquet in zip"}
    assert {one.kind for one in found} == kinds
    assert all(count == len(kinds) for count in Counter(one.name for one in found).values())
    formats = {one.format for one in found}
    assert formats <= set(importers())
    # Tasks that rewardloop made itself need the store that they came from.
    assert set(importers()) - formats <= {"label-studio-tasks", "label-studio-verdicts"}


def test_a_file_is_made_of_its_number_and_seed() -> None:
    assert made(3, 8) == made(3, 8)
    assert len({made(number, 8)[2] for number in range(40)}) > 35


def test_some_hundred_files_crash_nothing_and_lose_no_row(tmp_path: Path) -> None:
    results = [attempt(number, 8, tmp_path) for number in range(FILES)]
    assert [(one.number, one.what, one.crash) for one in results if one.crash] == []
    assert [(one.number, one.what) for one in results if one.unaccounted] == []
    assert sum(one.taken for one in results) > FILES // 10


def test_what_is_no_clear_refusal_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr("benchmarks.bad_input.attempt.ingest", broken)
    assert "KeyError: 'a defect'" in attempt(0, 8, tmp_path).crash


def test_rows_of_which_nothing_is_said_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = next(number for number in range(FILES) if attempt(number, 8, tmp_path / "").taken)
    monkeypatch.setattr("benchmarks.bad_input.attempt._row", lambda place, name: "nowhere")
    (tmp_path / "again").mkdir()
    assert attempt(sound, 8, tmp_path / "again").unaccounted > 0


@pytest.mark.slow
def test_the_run_in_processes_counts_what_they_find() -> None:
    found = run(40, 8, 2, 60.0)
    assert (found["files"], found["crashes"], found["hangs"], found["rows_unaccounted"]) == (40, 0, 0, 0)
    assert 0 < found["peak_rss_gb"] < 2
