"""KFP's output as a person sees it: one line per step, everything in the log."""

import io
from pathlib import Path

from rewardloop.cli.stream import RunStream
from rewardloop.evidence import StepRecord

STARTED = "10:00:00.000 - INFO - Executing task \x1b[96m'train-reward-model'\x1b[0m\n"
FINISHED = (
    "10:00:09.000 - INFO - Task \x1b[96m'train-reward-model'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m\n"
)
FAILED = "10:00:09.000 - ERROR - Task 'train-reward-model' finished with status FAILURE\n"


class Terminal(io.StringIO):
    def __init__(self, live: bool) -> None:
        super().__init__()
        self.live = live

    def isatty(self) -> bool:
        return self.live


def leave_record(run_dir: Path, **fields: object) -> None:
    record = {"step": "train_reward_model", "status": "finished", "started_at": "", "produced": "236 groups"} | fields
    (run_dir / "steps").mkdir()
    (run_dir / "steps" / "train_reward_model.json").write_text(StepRecord.model_validate(record).model_dump_json())


def shown(run_dir: Path, *texts: str, live: bool = False) -> tuple[str, str]:
    """(terminal, log) after ``texts``."""
    terminal, log = Terminal(live), io.StringIO()
    stream = RunStream(log, run_dir, terminal)
    for text in texts:
        stream.write(text)
    stream.close()
    return terminal.getvalue(), log.getvalue()


def test_one_line_per_step_with_what_it_produced(tmp_path: Path) -> None:
    leave_record(tmp_path)
    terminal, log = shown(tmp_path, STARTED, "some library speaks\n", FINISHED)
    assert terminal.split() == ["train_reward_model", "0.0", "s", "236", "groups"]
    assert "some library speaks" in log
    assert "\x1b" not in log


def test_a_failed_step_shows_the_first_line_of_its_error(tmp_path: Path) -> None:
    leave_record(tmp_path, status="failed", error="no such base model\nmore words")
    terminal, _ = shown(tmp_path, STARTED, FAILED)
    assert terminal.endswith("failed: no such base model\n")


def test_cached_steps_and_graphs(tmp_path: Path) -> None:
    terminal, _ = shown(
        tmp_path,
        "Task load-corpus cache hit (key=abc); outputs reused\n",
        "10:00:00.000 - INFO - Task 'condition-1' finished with status SUCCESS\n",
    )
    assert terminal.split() == ["load_corpus", "cached"]


def test_text_in_pieces_is_put_together(tmp_path: Path) -> None:
    leave_record(tmp_path)
    terminal, _ = shown(tmp_path, *STARTED, *FINISHED)
    assert "236 groups" in terminal


def test_progress_is_live_on_a_terminal_and_rare_elsewhere(tmp_path: Path) -> None:
    bar = "training:  45%|████      | 108/237 [00:40<00:48,  2.66step/s, loss=0.451]\n"
    live = shown(tmp_path, STARTED, bar, live=True)[0]
    assert "train_reward_model" in live
    assert "training █████████" in live
    assert shown(tmp_path, STARTED, bar, bar, bar)[0] == ""
