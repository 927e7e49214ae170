"""The step: alignment starts for a candidate that would be blessed, and for no other."""

import json
from pathlib import Path

import pytest

from rewardloop.evidence import StepRecord
from rewardloop.steps.check_reward_gate import check_reward_gate
from tests import run_folders


@pytest.mark.parametrize(("limit", "passes"), [(0.5, True), (0.99, False)])
def test_the_answer_is_that_of_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, passes: bool
) -> None:
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(tmp_path / "run"))
    evaluation = tmp_path / "evaluation"
    (evaluation / "evidence").mkdir(parents=True)
    measured = run_folders.evaluation(champion=False)
    (evaluation / "evidence" / "evaluation.json").write_text(measured.model_dump_json())
    settings = {"organization": "film-reviews", "gate": {"min_accuracy": limit}}
    answer = check_reward_gate(evaluation=evaluation, store=str(tmp_path / "store"), settings=json.dumps(settings))
    assert answer is passes
    record = StepRecord.model_validate_json((tmp_path / "run" / "steps" / "check_reward_gate.json").read_bytes())
    assert record.status == "finished"
    if passes:
        assert record.produced.endswith("checks: alignment starts")
    else:
        assert record.produced.startswith("not passed, alignment is not started: Accuracy")
    # The verdict is for decide_promotion to write.
    assert not (tmp_path / "run" / "evidence" / "blessing.json").exists()
