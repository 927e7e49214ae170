"""The gate: every configured limit against the evidence, and a verdict with every reason.

In: the evidence of an evaluation, the limits, the champion of this moment. Out: a ``Blessing``. A candidate is blessed
when each check passes and at least one absolute limit is configured: with no limits nothing is ever blessed. A value
that could not be measured never passes. ``gate_champion`` holds the checks against the champion.
"""

from rewardloop.config import GateSettings
from rewardloop.evaluation.checks import (
    at_most,
    lower_end,
    magnitude,
    not_surely_above,
    not_surely_below,
    unmeasured,
    upper_end,
)
from rewardloop.evaluation.gate_champion import against_champion, golden_notes, judged_slices
from rewardloop.evidence import NO_CHAMPION, Blessing, Check, EvaluationEvidence

_NO_LIMITS = "No limit is configured in the section gate, so nothing can be blessed: set gate.min_accuracy at least."


def decide(
    evaluation: EvaluationEvidence,
    gate: GateSettings,
    *,
    candidate: str,
    corpus_digest: str,
    champion_now: str | None = None,
) -> Blessing:
    """Judge one candidate.

    Args:
        evaluation: what was measured.
        gate: the limits.
        candidate: digest of the candidate's files.
        corpus_digest: what it was trained on.
        champion_now: version that is the champion at this moment, perhaps not the one compared with; None: there is
            none.
    """
    checks = [
        *_accuracy(evaluation, gate),
        *_scores(evaluation, gate),
        *_threshold(evaluation, gate),
        *_robustness(evaluation, gate),
        *_leaks(evaluation, gate),
        *against_champion(evaluation.champion, gate, champion_now),
    ]
    reasons = [check.reason for check in checks if not check.passed]
    if not gate.any_limit():
        reasons.insert(0, _NO_LIMITS)
    blessed = not reasons
    return Blessing(
        blessed=blessed,
        candidate=candidate,
        champion=evaluation.champion.version if evaluation.champion else NO_CHAMPION,
        corpus_digest=corpus_digest,
        checks=checks,
        reasons=[f"All {len(checks)} checks passed."] if blessed else reasons,
        slices=judged_slices(evaluation.champion, gate),
        notes=golden_notes(evaluation.champion, gate, evaluation.accuracy.level),
    )


def _accuracy(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    checks = []
    if gate.min_accuracy is not None:
        checks.append(lower_end("accuracy on test pairs", evaluation.accuracy, gate.min_accuracy))
    controlled = {
        "length-controlled accuracy": (evaluation.length.controlled, gate.min_length_controlled_accuracy),
        "advantage over length only, with length held fair": (
            evaluation.length.controlled_over_length_only,
            gate.min_over_length_only,
        ),
    }
    for name, (measured, limit) in controlled.items():
        if limit is not None:
            checks.append(lower_end(name, measured, limit, missing="the longer answer always wins, or never."))
    if gate.min_over_bag_of_words is not None:
        name = "advantage over bag of words"
        checks.append(lower_end(name, evaluation.over_bag_of_words, gate.min_over_bag_of_words))
    large = [line for line in evaluation.slices if line.documents >= gate.min_slice_documents]
    if gate.min_slice_accuracy is not None and large:
        worst = min(large, key=lambda line: line.accuracy.high)
        checks.append(not_surely_below(f"worst slice ({worst.name})", worst.accuracy, gate.min_slice_accuracy))
    return checks


def _scores(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    told_apart = evaluation.score_spread > 0
    spread = f"Scores of the validation answers: spread {evaluation.score_spread:.3g}"
    checks = [
        Check(
            name="scores tell answers apart",
            passed=told_apart,
            value=evaluation.score_spread,
            limit=0.0,
            rule="value > limit",
            reason=f"{spread}." if told_apart else f"{spread}: every answer gets the same score, nothing was learnt.",
        )
    ]
    if gate.max_ece is not None:
        checks.append(at_most("calibration error (ECE)", evaluation.ece, gate.max_ece))
    checks += _calibration_of_slices(evaluation, gate)
    unscored = evaluation.unscored / evaluation.held_out
    checks.append(at_most("held-out answers too long to be scored", unscored, gate.max_unscored))
    correlation = evaluation.length.correlation
    if gate.max_score_length_correlation is not None and correlation is not None:
        name = "correlation of score and length"
        checks.append(not_surely_above(name, magnitude(correlation), gate.max_score_length_correlation))
    return checks


def _calibration_of_slices(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    lines = [line for line in evaluation.calibration_slices if line.documents >= gate.min_slice_documents]
    if gate.max_slice_miscalibration is None or not lines:
        return []
    worst = max(lines, key=lambda line: magnitude(line.excess).low)
    agreed = worst.predicted - worst.excess.value
    check = not_surely_above(
        f"miscalibration of the worst slice ({worst.name})", magnitude(worst.excess), gate.max_slice_miscalibration
    )
    why = f"There the model is {worst.predicted:.0%} sure of the answer it prefers, and {agreed:.0%} of people agree."
    return [check.model_copy(update={"reason": f"{check.reason} {why}"})]


def _threshold(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    threshold, checks = evaluation.threshold, []
    if gate.require_threshold:
        both_classes = 0 < threshold.unacceptable_share < 1
        reason = threshold.reason if threshold.certified else f"No threshold could be certified. {threshold.reason}"
        if threshold.certified and not both_classes:
            reason = f"Every calibration item is acceptable, so nothing shows that anything is blocked. {reason}"
        checks.append(
            Check(
                name="threshold certified",
                passed=threshold.certified and both_classes,
                value=threshold.p_value,
                limit=threshold.delta,
                rule="p-value on the calibration split <= delta, and items of both classes",
                reason=reason,
            )
        )
    limit, measured = gate.max_unacceptable_among_accepted, threshold.unacceptable_among_accepted
    if limit is not None:
        name = "unacceptable among accepted, on test"
        checks.append(not_surely_above(name, measured, limit, missing="no test answer with a verdict was accepted."))
    return checks


def _robustness(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    checks = []
    for line in evaluation.robustness:
        if not line.items and not line.unscored:
            continue  # it changes no answer
        if gate.max_robustness_change is not None:
            name = f"rise of the score by {line.kind}"
            missing = "it needs scored answers of two documents."
            checks.append(upper_end(name, line.change, gate.max_robustness_change, missing=missing))
        if gate.max_flips_to_accepted is not None and line.blocked != 0:
            name = f"blocked answers that {line.kind} gets accepted"
            missing = "there is no threshold."
            checks.append(not_surely_above(name, line.newly_accepted, gate.max_flips_to_accepted, missing=missing))
    asked = gate.max_robustness_change if gate.max_robustness_change is not None else gate.max_flips_to_accepted
    # Scores that are all equal have a check of their own.
    if asked is not None and not evaluation.robustness and evaluation.score_spread > 0:
        checks.append(unmeasured("robustness", asked, "measured", "no perturbed answer was scored."))
    return checks


def _leaks(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    leaks, checks = evaluation.leaks, []
    if gate.max_leaked_items is not None:
        name = "held-out texts that are in another split too"
        if leaks is None or leaks.duplicates_with_train is None or leaks.documents_with_train is None:
            return [unmeasured(name, gate.max_leaked_items, "value <= limit", "there are no training items.")]
        found = max(leaks.duplicates_with_train, leaks.documents_with_train) + max(
            leaks.duplicates_held_out, leaks.documents_held_out
        )
        passed = found <= gate.max_leaked_items
        shared = "; ".join(
            f"{max(line.texts, line.documents):,} of {line.second} in {line.first}"
            for line in leaks.overlaps
            if line.texts or line.documents
        )
        checks.append(
            Check(
                name=name,
                passed=passed,
                value=found,
                limit=gate.max_leaked_items,
                rule="value <= limit",
                reason=f"Held-out {leaks.compared} that are in another split too: {found:,}"
                + (f" ({shared}); the limit is {gate.max_leaked_items:,}." if shared else "."),
            )
        )
    if gate.max_near_duplicates is not None:
        name = "test texts with a near duplicate in training"
        found_near = leaks.nearest.near_duplicates if leaks and leaks.nearest else None
        missing = "there are no training or no test items."
        checks.append(not_surely_above(name, found_near, gate.max_near_duplicates, missing=missing))
    return checks
