"""How a run ended: every way, in words and as an exit code."""

from pathlib import Path

import pytest

from rewardloop.reporting.outcome import outcome_of
from rewardloop.reporting.run_evidence import PIPELINES, RunEvidence
from tests import run_folders


def test_blessed(tmp_path: Path) -> None:
    outcome = outcome_of(RunEvidence.read(run_folders.blessed_run(tmp_path)))
    assert (outcome.kind, outcome.exit_code, outcome.step) == ("blessed", 0, None)
    assert outcome.reasons == ["All 3 checks of the gate passed."]
    assert "`rewardloop score --text TEXT`" in outcome.advice


def test_registered_without_promotion(tmp_path: Path) -> None:
    folder = run_folders.blessed_run(tmp_path)
    registration = run_folders.registration().model_copy(update={"champion": False})
    (folder / "evidence" / "registration.json").write_text(registration.model_dump_json(), encoding="utf-8")
    outcome = outcome_of(RunEvidence.read(folder))
    assert outcome.headline.endswith("as a candidate; the champion has not changed.")
    assert "`rewardloop score --version 2 --text TEXT`" in outcome.advice


def test_waiting_for_approval(tmp_path: Path) -> None:
    folder = run_folders.aligned_run(tmp_path)
    waits = {"champion": False, "waiting": True, "previous": None, "history_sequence": None}
    waits["policy"] = run_folders.policy_registration().model_copy(update={"waiting": True})
    registration = run_folders.registration().model_copy(update=waits)
    (folder / "evidence" / "registration.json").write_text(registration.model_dump_json(), encoding="utf-8")
    outcome = outcome_of(RunEvidence.read(folder))
    assert (outcome.kind, outcome.exit_code) == ("blessed", 0)
    assert outcome.headline == (
        "Blessed: registered as film-reviews-reward version 2, waiting for approval; the champion has not changed. "
        "The policy aligned to it is film-reviews-policy version 4, waiting for approval too."
    )
    assert "`rewardloop approve 2 --reason WHY` makes it the champion" in outcome.advice
    assert "`rewardloop approve 4 --policy --reason WHY`" in outcome.advice


def test_not_blessed(tmp_path: Path) -> None:
    outcome = outcome_of(RunEvidence.read(run_folders.refused_run(tmp_path)))
    assert (outcome.kind, outcome.exit_code) == ("not blessed", 3)
    assert outcome.reasons[0] == "min_accuracy: accuracy 0.541 with lower end 0.526 is below 0.8"


def test_a_step_that_refuses_an_unblessed_candidate_is_no_failure(tmp_path: Path) -> None:
    folder = run_folders.write_run(
        tmp_path,
        {"blessing": run_folders.blessing(blessed=False)},
        stop_at="register_models",
        error="not blessed",
        exit_code=3,
    )
    assert outcome_of(RunEvidence.read(folder)).kind == "not blessed"


@pytest.mark.parametrize(
    ("step", "exit_code", "advice"),
    [
        ("validate_feedback", 2, "rewardloop accept BATCH"),
        ("train_reward_model", 2, "Correct what the message names"),
        ("train_reward_model", 1, "from the last checkpoint"),
        ("evaluate_reward_model", 1, "from the cache"),
        ("train_sft", 1, "from the last checkpoint"),
        ("generate_references", 1, "from the last checkpoint"),
        ("align_policy", 1, "from the last checkpoint"),
        ("align_policy", 2, "Correct what the message names"),
        ("evaluate_policy", 1, "from the cache"),
    ],
)
def test_failed(tmp_path: Path, step: str, exit_code: int, advice: str) -> None:
    folder = run_folders.write_run(tmp_path, {}, stop_at=step, error="why", exit_code=exit_code, aligns=True)
    outcome = outcome_of(RunEvidence.read(folder))
    assert (outcome.kind, outcome.exit_code, outcome.reasons) == ("failed", exit_code, ["why"])
    assert advice in outcome.advice


def test_killed_in_the_middle(tmp_path: Path) -> None:
    outcome = outcome_of(RunEvidence.read(run_folders.write_run(tmp_path, {}, stop_at="train_reward_model")))
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert "interrupted, killed, or ran out of memory" in outcome.reasons[0]


def test_the_reports_own_step_is_no_failure(tmp_path: Path) -> None:
    folder = run_folders.blessed_run(tmp_path)
    record = (folder / "steps" / "register_models.json").read_text(encoding="utf-8")
    running = record.replace("register_models", "publish_report").replace("finished", "running")
    (folder / "steps" / "publish_report.json").write_text(running, encoding="utf-8")
    evidence = RunEvidence.read(folder)
    assert [step.step for step in evidence.steps][-1] == "publish_report"
    assert outcome_of(evidence).kind == "blessed"


def test_a_blessing_that_nobody_registered_is_a_failure(tmp_path: Path) -> None:
    folder = run_folders.blessed_run(tmp_path)
    (folder / "evidence" / "registration.json").unlink()
    (folder / "steps" / "register_models.json").unlink()
    outcome = outcome_of(RunEvidence.read(folder))
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert "never registered" in outcome.headline


@pytest.mark.parametrize(
    ("last", "aligns", "headline"),
    [
        (None, False, "Failed before the first step."),
        ("check_prerequisites", False, "Stopped before load_corpus."),
        ("build_preferences", False, "Stopped before train_reward_model."),
        ("evaluate_reward_model", False, "Stopped before decide_promotion."),
        ("evaluate_reward_model", True, "Stopped before check_reward_gate."),
        ("generate_references", True, "Stopped before align_policy."),
        ("register_models", False, "Stopped before its end."),
    ],
)
def test_stopped_between_steps(tmp_path: Path, last: str | None, aligns: bool, headline: str) -> None:
    folder = run_folders.write_run(tmp_path, {}, stop_at=last or "check_prerequisites", aligns=aligns)
    if last is None:
        (folder / "steps" / "check_prerequisites.json").unlink()
    else:
        place = folder / "steps" / f"{last}.json"
        place.write_text(place.read_text(encoding="utf-8").replace("running", "finished"), encoding="utf-8")
    outcome = outcome_of(RunEvidence.read(folder))
    assert (outcome.kind, outcome.headline) == ("failed", headline)


def test_a_cached_step_without_a_record_is_not_what_was_stopped_before(tmp_path: Path) -> None:
    folder = run_folders.write_run(tmp_path, {}, stop_at="train_reward_model")
    place = folder / "steps" / "train_reward_model.json"
    place.write_text(place.read_text(encoding="utf-8").replace("running", "finished"), encoding="utf-8")
    (folder / "steps" / "load_corpus.json").unlink()
    assert outcome_of(RunEvidence.read(folder)).headline == "Stopped before evaluate_reward_model."


def test_blessed_with_its_policy(tmp_path: Path) -> None:
    evidence = RunEvidence.read(run_folders.aligned_run(tmp_path))
    outcome = outcome_of(evidence)
    assert (outcome.kind, outcome.exit_code) == ("blessed", 0)
    assert outcome.headline == (
        "Blessed: registered as film-reviews-reward version 2, which is now the champion. "
        "The policy aligned to it is film-reviews-policy version 4."
    )
    assert outcome.reasons == [
        "All 3 checks of the gate passed.",
        "The policy: all 3 checks of its gate passed.",
    ]
    assert [step.step for step in evidence.steps] == list(PIPELINES["retrain-and-align"])


def test_blessed_without_its_policy(tmp_path: Path) -> None:
    outcome = outcome_of(RunEvidence.read(run_folders.over_optimized_run(tmp_path)))
    assert (outcome.kind, outcome.exit_code, outcome.step) == ("blessed", 3, None)
    assert outcome.headline == (
        "Blessed: registered as film-reviews-reward version 2, which is now the champion. "
        "The policy was not blessed, nor registered: 1 of 3 checks failed."
    )
    assert outcome.reasons == ["Not over-optimized: the second judge finds the answers worse, -0.710 [-0.920, -0.500]."]
    assert "a larger `align.kl.beta`" in outcome.advice
    assert "`rewardloop score --text TEXT`" in outcome.advice


def test_a_policy_refused_for_its_text_is_sent_to_the_limits(tmp_path: Path) -> None:
    folder = run_folders.over_optimized_run(tmp_path)
    measured = run_folders.policy_evaluation().model_dump_json()
    (folder / "evidence" / "policy_evaluation.json").write_text(measured, encoding="utf-8")
    assert "its limits are in `gate.policy`" in outcome_of(RunEvidence.read(folder)).advice


def test_a_failed_reward_gate_starts_no_alignment(tmp_path: Path) -> None:
    outcome = outcome_of(RunEvidence.read(run_folders.gate_refused_run(tmp_path)))
    assert (outcome.kind, outcome.exit_code) == ("not blessed", 3)
    assert outcome.headline.endswith("Alignment was not started: the reward gate failed.")
    assert "Alignment" not in outcome_of(RunEvidence.read(run_folders.refused_run(tmp_path / "retrain"))).headline


def test_a_blessed_policy_that_nobody_registered_is_a_failure(tmp_path: Path) -> None:
    folder = run_folders.aligned_run(tmp_path)
    (folder / "evidence" / "registration.json").write_text(
        run_folders.registration().model_dump_json(), encoding="utf-8"
    )
    outcome = outcome_of(RunEvidence.read(folder))
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert outcome.headline == "Failed: film-reviews-reward version 2 was registered, its blessed policy never."
