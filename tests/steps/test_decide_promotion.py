"""The step: the verdict on disk is the verdict returned."""

import json
from pathlib import Path

import pytest

from rewardloop.evidence import Blessing, StepRecord
from rewardloop.steps.decide_promotion import decide_promotion
from tests import run_folders


@pytest.mark.parametrize(("limit", "blessed"), [(0.5, True), (0.99, False)])
def test_verdict_is_written_and_returned(tmp_path: Path, limit: float, blessed: bool) -> None:
    evaluation = tmp_path / "evaluation"
    (evaluation / "evidence").mkdir(parents=True)
    measured = run_folders.evaluation(champion=False)
    (evaluation / "evidence" / "evaluation.json").write_text(measured.model_dump_json())
    (evaluation / "candidate.json").write_text(json.dumps({"digest": "abc"}))
    answer = decide_promotion(
        evaluation=evaluation,
        settings=json.dumps({"gate": {"min_accuracy": limit}}),
        corpus_digest="corpus",
        blessing=tmp_path / "blessing",
    )
    written = Blessing.model_validate_json((tmp_path / "blessing" / "blessing.json").read_bytes())
    assert answer is written.blessed is blessed
    assert (written.candidate, written.corpus_digest) == ("abc", "corpus")
    record = StepRecord.model_validate_json((tmp_path / "blessing" / "steps" / "decide_promotion.json").read_bytes())
    assert record.produced == f"{'blessed' if blessed else 'not blessed'}: {written.reasons[0]}"
