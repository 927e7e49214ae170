"""The printed summary and the numbers in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rewardloop.reporting.run_evidence import RunEvidence
from rewardloop.reporting.summary import terminal_summary
from rewardloop.reporting.wording import (
    clip,
    compact,
    duration,
    fraction,
    interval,
    one_line,
    percent,
    points,
    signed,
    whole_percent,
)
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
        "check_prerequisites 0.1 s load_corpus cached",
        "validate_feedback cached build_preferences 3.1 s",
        f"Report: {tmp_path / 'report.html'}",
    ):
        assert line in lines, line


@pytest.mark.parametrize("make", [run_folders.blessed_run, run_folders.refused_run, run_folders.failed_run])
def test_short_and_aligned(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    lines = terminal_summary(RunEvidence.read(make(tmp_path))).splitlines()
    assert len(lines) <= 25
    assert max(len(line) for line in lines[:-1]) <= 120
    assert len({line.index("[") for line in lines if "[" in line}) <= 1


def test_the_policy_has_its_lines(tmp_path: Path) -> None:
    text = terminal_summary(RunEvidence.read(run_folders.aligned_run(tmp_path)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "Policy's gain in reward +1.24 [+1.01 to +1.47] 0.13 → 1.37 on 60 held-out prompts",
        "wins against the reference 75.0% [64.0% to 86.0%] the reward model, ties half",
        "wins by the second judge 63.3% [52.3% to 74.3%] bag of words on the training pairs, ties half",
        "KL from the reference 5.03 [4.42 to 5.64] nats of 10",
        "length 24.1 → 23.2 tokens, distinct bigrams 0.81 → 0.78",
        "“The acting in this film was”",
        "reference −0.84 wooden, and the plot went nowhere for two hours.",
        "policy +1.91 a joy to watch: warm, funny and quietly moving to the end.",
    ):
        assert line in lines, line
    assert "I left the cinema" not in text, "two samples are enough"


@pytest.mark.parametrize("make", [run_folders.aligned_run, run_folders.over_optimized_run])
def test_a_summary_with_a_policy_stays_short_and_aligned(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    lines = terminal_summary(RunEvidence.read(make(tmp_path))).splitlines()
    assert len(lines) <= 40
    assert max(len(line) for line in lines[:-1]) <= 120
    assert len({line.index("[") for line in lines if "[" in line and not line.startswith(("  “", "  -"))}) == 1


def test_what_a_model_wrote_cannot_command_the_terminal(tmp_path: Path) -> None:
    text = terminal_summary(RunEvidence.read(run_folders.aligned_run(tmp_path)))
    assert all(letter.isprintable() for letter in text.replace("\n", ""))
    assert "red enod lleW and a second line" in text


def test_a_run_that_failed_while_aligning_has_no_policy_lines(tmp_path: Path) -> None:
    text = terminal_summary(RunEvidence.read(run_folders.alignment_failed_run(tmp_path)))
    assert text.startswith("Failed at align_policy.\n  CUDA out of memory")
    assert "Policy's gain" not in text


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
        (signed(-1.236, 2), "−1.24"),
        (compact(10.0), "10"),
        (compact(0.05128), "0.0513"),
        (compact(-1234.6), "−1,235"),
        (points(0.3333), "+33.3"),
        (points(None), "–"),
        (interval(run_folders.estimate(0.5, 0.25), form="points"), "+25.0 to +75.0"),
        (interval(run_folders.estimate(0.5, 0.25), form="signed", digits=1), "+0.2 to +0.8"),
        (one_line("a\tb\n\n c\x1b[0m", 99), "a b c [0m"),
        (one_line("abcdef", 4), "abc…"),
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
