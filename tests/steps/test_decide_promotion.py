"""The step: the verdict on disk is the verdict returned, and a policy has one of its own."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.evidence import Blessing, PolicyEvaluationEvidence, StepRecord
from rewardloop.feedback.comparisons import ANSWERS
from rewardloop.steps.decide_promotion import decide_promotion
from rewardloop.storage import Storage
from rewardloop.tracking.history import History
from tests import run_folders


def decide(
    folder: Path, gate: dict[str, Any], policy: PolicyEvaluationEvidence | None = None
) -> tuple[bool, Blessing, str]:
    """What is returned, what is written, and what the step says."""
    evaluation, aligned = folder / "evaluation", folder / "policy_evaluation"
    (evaluation / "evidence").mkdir(parents=True)
    measured = run_folders.evaluation(champion=False)
    (evaluation / "evidence" / "evaluation.json").write_text(measured.model_dump_json())
    (evaluation / "candidate.json").write_text(json.dumps({"digest": "abc"}))
    sections: dict[str, Any] = {"organization": "film-reviews", "gate": gate, "align": None}
    if policy:
        (aligned / "evidence").mkdir(parents=True)
        (aligned / "evidence" / "policy_evaluation.json").write_text(policy.model_dump_json())
        (aligned / "policy.json").write_text(json.dumps({"digest": "def"}))
        row = {"prompt": [{"role": "user", "content": "Why?"}], "reference": "a", "policy": "b"}
        pl.DataFrame([row], schema=ANSWERS).write_parquet(aligned / "answers.parquet")
        sections["align"] = {"prompts": "p.jsonl", "kl": {"budget": 6.0}}
    answer = decide_promotion(
        evaluation=evaluation,
        store=str(folder / "store"),
        settings=json.dumps(sections),
        corpus_digest="corpus",
        blessing=folder / "blessing",
        policy_evaluation=aligned if policy else None,
    )
    written = Blessing.model_validate_json((folder / "blessing" / "blessing.json").read_bytes())
    record = StepRecord.model_validate_json((folder / "blessing" / "steps" / "decide_promotion.json").read_bytes())
    return answer, written, record.produced


@pytest.mark.parametrize(("limit", "blessed"), [(0.5, True), (0.99, False)])
def test_verdict_is_written_and_returned(tmp_path: Path, limit: float, blessed: bool) -> None:
    answer, written, produced = decide(tmp_path, {"min_accuracy": limit})
    assert answer is written.blessed is blessed
    assert (written.candidate, written.corpus_digest) == ("abc", "corpus")
    assert produced == f"{'blessed' if blessed else 'not blessed'}: {written.reasons[0]}"
    assert written.policy is None


def test_a_champion_that_came_meanwhile_is_seen(tmp_path: Path) -> None:
    history = History(Storage.open(str(tmp_path / "store")), "film-reviews-reward")
    history.append("promote", "4", expected=None, why="Better.", threshold=None, compared_with="no champion")
    answer, written, _ = decide(tmp_path, {"min_accuracy": 0.5})
    assert answer is written.blessed is False
    assert written.reasons == [
        "Compared with no champion; the champion is version 4 now. Run again to compare with that."
    ]


def test_a_policy_is_blessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "20261121T101500-c0c0c0c0"
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(run))
    answer, written, produced = decide(tmp_path, {"min_accuracy": 0.5}, run_folders.policy_evaluation())
    assert answer is written.blessed is True
    assert written.policy is not None
    assert (written.policy.blessed, written.policy.candidate) == (True, "def")
    assert produced == f"blessed: {written.reasons[0]} Policy blessed: {written.policy.reasons[0]}"
    # People's comparisons are made from the run's folder.
    answers = pl.read_parquet(run / "policy-answers.parquet")
    assert answers.rows() == [([{"role": "user", "content": "Why?"}], "a", "b")]
    assert json.loads((run / "policy-answers.json").read_text()) == {"policy": "def", "run_id": run.name}


def test_an_over_optimized_policy_is_refused_without_its_reward_model(tmp_path: Path) -> None:
    measured = run_folders.policy_evaluation(over_optimized=True)
    answer, written, produced = decide(tmp_path, {"min_accuracy": 0.5}, measured)
    assert answer is written.blessed is True
    assert written.policy is not None
    assert written.policy.blessed is False
    assert written.policy.reasons[0].startswith("Over-optimization: ")
    assert f" Policy not blessed: {written.policy.reasons[0]}" in produced
    # Outside a run there is nowhere to keep the answers.
    assert not list(tmp_path.rglob("policy-answers.*"))


def test_the_kl_budget_is_the_limit_unless_the_gate_has_one(tmp_path: Path) -> None:
    measured = run_folders.policy_evaluation()
    kl = measured.kl.model_copy(update={"value": 7.0})
    measured = measured.model_copy(update={"kl": kl})
    _, refused, _ = decide(tmp_path / "budget", {"min_accuracy": 0.5}, measured)
    assert refused.policy is not None
    assert "KL" in refused.policy.reasons[0]
    _, blessed, _ = decide(tmp_path / "gate", {"min_accuracy": 0.5, "policy": {"max_kl": 8.0}}, measured)
    assert blessed.policy is not None
    assert blessed.policy.blessed


def test_a_policy_of_a_refused_reward_model(tmp_path: Path) -> None:
    answer, written, _ = decide(tmp_path, {"min_accuracy": 0.99}, run_folders.policy_evaluation())
    assert answer is written.blessed is False
    assert written.policy is not None
    assert written.policy.blessed is False
    assert written.policy.reasons[0] == "The reward model that it was aligned to was not blessed."
