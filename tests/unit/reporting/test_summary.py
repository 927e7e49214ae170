"""The printed summary and the numbers in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rewardloop.reporting.run_evidence import RunEvidence
from rewardloop.reporting.summary import terminal_summary
from rewardloop.reporting.wording import clip, duration, fraction, percent, signed, whole_percent
from tests import run_folders


def test_blessed_summary(tmp_path: Path) -> None:
    text = terminal_summary(RunEvidence.read(run_folders.blessed_run(tmp_path)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert len(lines) <= 25
    for line in (
        "Blessed: registered as film-reviews-reward version 2, which is now the champion.",
        "Accuracy on held-out pairs 0.878 [0.863 to 0.893] 95% interval, 48,211 pairs",
        "bag of words 0.826 [0.811 to 0.841] candidate +0.052 [+0.040 to +0.064]",
        "longer answer wins 0.507 [0.492 to 0.522] candidate +0.371 [+0.351 to +0.391]",
        "Threshold 0.130 at most 10% of what it accepts is unacceptable, 90% confidence*",
        "unacceptable among accepted 8.1% [6.0% to 10.2%] 561 accepted items",
        "false-accept rate 7.3% [5.3% to 9.3%] 622 unacceptable items",
        "false-block rate 26.4% [23.0% to 29.8%] 701 acceptable items",
        "Against champion, version 1 +0.017 [+0.009 to +0.025] same pairs, 4.3% of decisions flip",
        "Time: 5 min 3 s",
        "load_corpus cached validate_feedback cached",
        "build_preferences 3.1 s train_reward_model 3 min 21 s",
        f"Report: {tmp_path / 'report.html'}",
    ):
        assert line in lines, line


@pytest.mark.parametrize("make", [run_folders.blessed_run, run_folders.refused_run, run_folders.failed_run])
def test_short_and_aligned(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    lines = terminal_summary(RunEvidence.read(make(tmp_path))).splitlines()
    assert len(lines) <= 25
    assert max(len(line) for line in lines[:-1]) <= 120
    assert len({line.index("[") for line in lines if "[" in line}) <= 1


def test_refused_summary_says_why_and_what_would_be_needed(tmp_path: Path) -> None:
    text = terminal_summary(RunEvidence.read(run_folders.refused_run(tmp_path)))
    assert "  - min_accuracy: accuracy 0.541 with lower end 0.526 is below 0.8" in text
    assert "not certified on 140 calibration items; about 1,200 calibration items needed" in text


def test_many_reasons_stay_short(tmp_path: Path) -> None:
    folder = run_folders.refused_run(tmp_path)
    blessing = run_folders.blessing(blessed=False).model_copy(
        update={"reasons": [f"reason {i} " * 40 for i in range(9)]}
    )
    (folder / "evidence" / "blessing.json").write_text(blessing.model_dump_json(), encoding="utf-8")
    lines = terminal_summary(RunEvidence.read(folder)).splitlines()
    assert lines[3].endswith("…")
    assert lines[4] == "  - and 6 more in the report"


def test_failed_summary(tmp_path: Path) -> None:
    text = terminal_summary(RunEvidence.read(run_folders.failed_run(tmp_path)))
    assert text.startswith("Failed at train_reward_model.\n  /data/checkpoints: No space left on device")
    assert "What to do: Correct what the message names" in text
    assert "train_reward_model          failed" in text


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (fraction(0.8781), "0.878"),
        (fraction(-0.5), "−0.500"),
        (fraction(None), "–"),
        (fraction(float("nan")), "–"),
        (signed(0.052), "+0.052"),
        (percent(0.0712), "7.1%"),
        (whole_percent(0.1), "10%"),
        (whole_percent(0.975), "97.5%"),
        (duration(0.04), "0.0 s"),
        (duration(9.96), "10.0 s"),
        (duration(59.7), "1 min 0 s"),
        (duration(197.3), "3 min 17 s"),
        (duration(7320), "2 h 2 min"),
        (clip("abcdef", 4), "abcd… (2 characters more)"),
        (clip("abcd", 4), "abcd"),
    ],
)
def test_wording(got: str, expected: str) -> None:
    assert got == expected
