"""Folders of whole runs as the steps leave them, for tests of the report: blessed, refused, failed, with a policy."""

from pathlib import Path

from rewardloop.evidence import Evidence, RunRecord, StepRecord
from tests.samples.base import HOSTILE, estimate
from tests.samples.data import comparisons, corpus, preferences, validation
from tests.samples.policy import alignment, base_start, policy_evaluation, references, sft
from tests.samples.promotion import blessing, policy_registration, policy_verdict, registration
from tests.samples.reward_model import evaluation, threshold, training, warm_start

__all__ = [
    "HOSTILE",
    "aligned_run",
    "alignment",
    "alignment_failed_run",
    "base_start",
    "blessed_run",
    "blessing",
    "comparisons",
    "corpus",
    "estimate",
    "evaluation",
    "failed_run",
    "gate_refused_run",
    "over_optimized_run",
    "policy_evaluation",
    "policy_registration",
    "policy_verdict",
    "preferences",
    "references",
    "refused_run",
    "registration",
    "sft",
    "threshold",
    "training",
    "validation",
    "warm_start",
    "write_run",
]

_REWARD_MODEL = {
    "check_prerequisites": (0.1, "the store and MLflow can be written"),
    "load_corpus": (0.6, "2 batches, 8,405 groups"),
    "validate_feedback": (6.4, "8,393 groups kept, 12 quarantined"),
    "build_preferences": (3.1, "669 groups, 18,279 pairs"),
    "train_reward_model": (201.2, "180 steps, validation accuracy 0.861 at step 135"),
    "evaluate_reward_model": (88.9, "accuracy 0.878, threshold 0.13"),
}
_ALIGNMENT = {
    "check_reward_gate": (0.1, "passed: alignment begins"),
    "train_sft": (94.4, "276 steps on 2,210 demonstrations"),
    "generate_references": (41.9, "638 answers, 128 of them reused"),
    "align_policy": (611.0, "40 updates, best at 30"),
    "evaluate_policy": (38.0, "gain 1.24 on 60 prompts"),
}
_VERDICT = {
    "decide_promotion": (0.2, "blessed: 3 of 3 checks passed"),
    "register_models": (9.8, "film-reviews-reward version 2"),
}


def write_run(
    folder: Path,
    parts: dict[str, Evidence],
    *,
    stop_at: str | None = None,
    error: str | None = None,
    exit_code: int | None = None,
    cached: tuple[str, ...] = (),
    aligns: bool = False,
) -> Path:
    """A run's folder; ``stop_at`` names the last step, failed with ``error``, or left "running" without one."""
    steps = _REWARD_MODEL | (_ALIGNMENT if aligns else {}) | _VERDICT
    record = RunRecord(
        run_id="20261121T101500-c0c0c0c0",
        pipeline="retrain-and-align" if aligns else "retrain",
        organization="film-reviews",
        corpus_digest="c0" * 32,
        config_digest="f1" * 32,
        started_at="2026-11-21T10:15:00+00:00",
        settings={"training.seed": "0", "organization": "film-reviews", "threshold.alpha": "0.1"},
        origins={"training.seed": "default", "organization": "conf/demo.yaml", "threshold.alpha": "--set"},
    )
    _write(folder / "run.json", record)
    for name, evidence in parts.items():
        _write(folder / "evidence" / f"{name}.json", evidence)
    for name, (seconds, produced) in steps.items():
        step = StepRecord(
            step=name, status="finished", started_at=record.started_at, seconds=seconds, produced=produced
        )
        if name in cached:
            step.status = "cached"
        if name == stop_at:
            update = {"status": "failed", "error": error, "exit_code": exit_code} if error else {"status": "running"}
            step = step.model_copy(update={**update, "produced": "", "seconds": seconds if error else None})
        _write(folder / "steps" / f"{name}.json", step)
        if name == stop_at:
            break
    return folder


def blessed_run(folder: Path) -> Path:
    """A second version, better than the first."""
    parts = {
        "corpus": corpus(),
        "validation": validation(),
        "preferences": preferences(),
        "training": training(warm_start()),
        "evaluation": evaluation(),
        "blessing": blessing(),
        "registration": registration(),
    }
    return write_run(folder, parts, cached=("load_corpus", "validate_feedback"))


def refused_run(folder: Path) -> Path:
    """A candidate below its limit, without a certified threshold."""
    parts = {
        "corpus": corpus(),
        "validation": validation(),
        "preferences": preferences(),
        "training": training(warm_start(used=False)),
        "evaluation": evaluation(accuracy=0.541, certified=False),
        "blessing": blessing(blessed=False),
    }
    folder = write_run(folder, parts)
    (folder / "steps" / "register_models.json").unlink()
    return folder


def failed_run(folder: Path) -> Path:
    """Out of disk while training."""
    parts: dict[str, Evidence] = {"corpus": corpus(), "validation": validation(), "preferences": preferences()}
    error = "/data/checkpoints: No space left on device; free space or correct the permissions"
    return write_run(folder, parts, stop_at="train_reward_model", error=error, exit_code=2)


def aligned_run(folder: Path) -> Path:
    """A blessed reward model with a blessed policy; people have compared an earlier policy's answers."""
    verdict = blessing().model_copy(update={"policy": policy_verdict()})
    registered = registration().model_copy(update={"policy": policy_registration()})
    return write_run(folder, {**_policy_parts(), "blessing": verdict, "registration": registered}, aligns=True)


def over_optimized_run(folder: Path) -> Path:
    """A blessed reward model; the second judge finds the policy's answers worse, so the policy is refused."""
    parts = _policy_parts() | {
        "policy_evaluation": policy_evaluation(over_optimized=True),
        "blessing": blessing().model_copy(update={"policy": policy_verdict(over_optimized=True)}),
        "registration": registration(),
    }
    return write_run(folder, parts, aligns=True)


def gate_refused_run(folder: Path) -> Path:
    """A reward model that was to be aligned to, and failed the reward gate."""
    parts: dict[str, Evidence] = {
        "evaluation": evaluation(accuracy=0.541, certified=False),
        "blessing": blessing(blessed=False),
    }
    folder = write_run(folder, parts, aligns=True)
    for step in (*list(_ALIGNMENT)[1:], "register_models"):
        (folder / "steps" / f"{step}.json").unlink()
    return folder


def alignment_failed_run(folder: Path) -> Path:
    """Out of the accelerator's memory while the policy learns."""
    parts = {name: part for name, part in _policy_parts().items() if name not in {"alignment", "policy_evaluation"}}
    return write_run(
        folder, parts, stop_at="align_policy", error="CUDA out of memory: <b>2.1 GB</b>", exit_code=1, aligns=True
    )


def _policy_parts() -> dict[str, Evidence]:
    return {
        "corpus": corpus().model_copy(update={"comparisons": comparisons()}),
        "validation": validation(),
        "preferences": preferences(),
        "training": training(),
        "evaluation": evaluation(),
        "sft": sft(),
        "references": references(),
        "alignment": alignment(),
        "policy_evaluation": policy_evaluation(),
    }


def _write(path: Path, evidence: Evidence) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(evidence.model_dump_json(), encoding="utf-8")
